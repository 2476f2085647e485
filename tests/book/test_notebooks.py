"""Every committed notebook is in step with its source, checked, executed and readable."""

import re
import warnings

import jupytext
import pytest

from gentok.book import pairs, registry
from gentok.book.staleness import stale_records

ROOT = pairs.find_root()
SOURCES = pairs.sources(ROOT)
pytestmark = pytest.mark.book
every_notebook = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)

CHECKED = re.compile(r"^\s*#.*NBVAL_CHECK_OUTPUT", re.M)
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(tmp|home|root|Users|work|opt|mnt)/\w")
EXERCISE = re.compile(r"^[`:]{3,}\{exercise(?:-start)?\}", re.M)
SOLUTION = re.compile(r"^[`:]{3,}\{solution(?:-start)?\}", re.M)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_checked(cell):
    return bool(CHECKED.search(cell.source)) or "nbval-check-output" in pairs.tags_of(cell)


def test_every_written_system_has_its_notebook():
    written = {(system.part, system.slug) for system in registry.systems() if system.module}
    assert written <= {(path.parent.name, path.stem) for path in SOURCES}


@every_notebook
def test_both_halves_hold_the_same_cells(path):
    assert pairs.in_step(path), "run: make book (it executes what is stale and carries text over)"


@every_notebook
def test_the_notebook_gives_back_its_source(path):
    """JupyterLab and jupytext write the `.py` from the `.ipynb`: that must change nothing."""
    assert jupytext.writes(pairs.read_pair(path), fmt="py:percent") == path.read_text("utf-8")


@every_notebook
def test_it_was_run_whole_and_in_order(path):
    notebook = pairs.read_pair(path)
    cells = code_cells(notebook)
    assert notebook.metadata.gentok.profile == "cpu", "committed outputs come from profile cpu"
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        kinds = [output.output_type for output in cell.outputs]
        assert "error" not in kinds or "raises-exception" in pairs.tags_of(cell), cell.source


@every_notebook
def test_checked_cells_have_something_to_check(path):
    """Nbval passes a checked cell that has no stored output, so this asks for one."""
    checked = [cell for cell in code_cells(pairs.read_pair(path)) if is_checked(cell)]
    assert checked, "no cell is compared: tag some nbval-check-output"
    assert [cell.source for cell in checked if not cell.outputs] == []
    loud = [c.source for c in checked if any(o.get("name") == "stderr" for o in c.outputs)]
    assert loud == [], "a warning in a checked cell is compared too"


@every_notebook
def test_parameters_default_to_the_committed_profile(path):
    tagged = [c for c in code_cells(pairs.read_source(path)) if "parameters" in pairs.tags_of(c)]
    assert len(tagged) == 1
    assert re.search(r'^profile = "cpu"', tagged[0].source, re.M)
    assert re.search(r"^seed = 0$", tagged[0].source, re.M)


@every_notebook
def test_the_first_cell_fetches_a_missing_gentok(path):
    """The same cell everywhere; `test_wheel.py` runs it where gentok is missing."""
    pattern = code_cells(pairs.read_source(pairs.source_of("enat", ROOT)))[0]
    first = code_cells(pairs.read_pair(path))[0]
    assert first.source == pattern.source
    assert pairs.tags_of(first) == ["install", "remove-cell"] and first.outputs == []


@every_notebook
def test_outputs_name_no_place_on_the_machine_that_made_them(path):
    for cell in code_cells(pairs.read_pair(path)):
        for output in cell.outputs:
            data = output.get("data", {})
            texts = [output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")]
            for text in texts:
                found = MACHINE_PATH.search(text)
                assert not found, f"{text[found.start() :][:80]!r} printed by:\n{cell.source}"


@every_notebook
def test_figures_have_alt_text(path):
    for cell in code_cells(pairs.read_pair(path)):
        pictures = [o for o in cell.outputs if any("image/" in kind for kind in o.get("data", {}))]
        if pictures:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt.split()) >= 4, f"no alt text that says what is seen:\n{cell.source}"
            assert len(pictures) == 1, (
                f"one figure a cell, so that its alt text fits:\n{cell.source}"
            )


@every_notebook
def test_code_fits_the_page(path):
    code = "\n".join(cell.source for cell in code_cells(pairs.read_source(path)))
    assert [line for line in code.split("\n") if len(line) > 79] == []


@every_notebook
def test_every_exercise_has_a_solution(path):
    text = "\n".join(c.source for c in pairs.read_source(path).cells if c.cell_type == "markdown")
    assert len(EXERCISE.findall(text)) == len(SOLUTION.findall(text)) >= 3


def test_stale_outputs_are_named():
    """A warning, not a failure: `make book` runs what is stale, and that may take an hour."""
    for path in SOURCES:
        if reason := pairs.why_stale(path, "cpu"):
            warnings.warn(f"{path.stem} is stale: {reason}", stacklevel=1)
    for name, reason in stale_records(ROOT).items():
        warnings.warn(f"the record of {name} is stale: {reason}", stacklevel=1)
