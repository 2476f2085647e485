"""The notebook tool: staleness, text carried over, students' copies, one run from end to end."""

import copy
import json
import subprocess
import sys

import nbformat
import pytest

from gentok.book import notebook as tool
from gentok.book import pairs, slices
from gentok.book.staleness import stale_records

SOURCE = """\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A page

# %% tags=["parameters"]
profile = "cpu"

# %%
# %matplotlib inline
import sys

import matplotlib.pyplot as plt

from gentok.nn.wavelet import haar2d

print(profile, haar2d.__name__)
print("\\r1/2\\r2/2", file=sys.stderr)
widget = {"model_id": "0", "version_major": 2, "version_minor": 0}
bundle = {"application/vnd.jupyter.widget-view+json": widget, "text/plain": "4 s"}
display(bundle, raw=True)

# %% mystnb={"image": {"alt": "A rising line"}}
fig, axes = plt.subplots(figsize=(1, 1))
axes.plot([0, 1]);

# %% [markdown]
# ```{exercise} One
# :label: ex-one
# ```
#
# ```{solution} ex-one
# Hidden words.
# ```

# %% [markdown]
# ```{solution-start} ex-one
# ```

# %% tags=["nbval-check-output", "solution"]
secret = 42
secret

# %% [markdown]
# ```{solution-end}
# ```
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks" / "latents"
    folder.mkdir(parents=True)
    (tmp_path / "notebooks" / "jupytext.toml").write_text("")
    (folder / "demo.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def source(book):
    return book / "notebooks" / "latents" / "demo.py"


def pretend_run(book, profile="cpu"):
    """Write the pair as `execute` would, without a kernel."""
    path = source(book)
    done = pairs.read_source(path)
    pairs.give_ids(done, pairs.read_pair(path))
    for cell in done.cells:
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("stream", text="out of " + cell.source[:20])]
    code = pairs.outputs_hash(path, profile)
    return pairs.write(done, path, {"code": code, "profile": profile})


def edit(book, old, new):
    text = source(book).read_text()
    assert old in text
    source(book).write_text(text.replace(old, new))


def test_new_notebook_is_stale_until_run(book):
    assert "no outputs yet" in pairs.why_stale(source(book), "cpu")
    assert not pairs.in_step(source(book))
    assert pretend_run(book) is True
    assert pairs.why_stale(source(book), "cpu") == ""
    assert "of profile 'cpu', not 'gpu'" in pairs.why_stale(source(book), "gpu")
    assert pairs.in_step(source(book))


def test_same_outputs_write_the_same_bytes(book):
    pretend_run(book)
    before = source(book).with_suffix(".ipynb").read_bytes()
    assert pretend_run(book) is False
    source(book).with_suffix(".ipynb").unlink()
    pretend_run(book)  # from nothing: ids follow from the text
    assert source(book).with_suffix(".ipynb").read_bytes() == before


def test_changed_text_is_carried_over_and_outputs_stay(book, capsys):
    pretend_run(book)
    old = pairs.read_pair(source(book))
    edit(book, "# # A page", "# # Another page\n#\n# More.")
    edit(book, "secret\n", "secret  # why\n")
    edit(book, "A rising line", "A line that rises")
    assert pairs.why_stale(source(book), "cpu") == ""
    assert not pairs.in_step(source(book))
    tool.refresh(book, "cpu")
    assert "synced demo" in capsys.readouterr().out
    assert pairs.in_step(source(book))
    new = pairs.read_pair(source(book))
    assert new.cells[0].source.startswith("# Another page")
    assert new.cells[3].metadata.mystnb.image.alt == "A line that rises"
    assert [c.get("outputs") for c in new.cells] == [c.get("outputs") for c in old.cells]
    assert [c.id for c in new.cells[1:]] == [c.id for c in old.cells[1:]]


INSTALL = """\
# %% tags=["install", "remove-cell"]
import gentok.nn.wavelet as missing

"""


def test_the_cell_that_fetches_the_package_changes_no_output(book):
    pretend_run(book)
    before = pairs.read_pair(source(book))
    edit(book, '# %% tags=["parameters"]', INSTALL + '# %% tags=["parameters"]')
    assert pairs.why_stale(source(book), "cpu") == ""
    pairs.sync(source(book))
    assert pairs.in_step(source(book))
    after = pairs.read_pair(source(book))
    assert after.cells.pop(1).outputs == []
    assert [c.get("outputs") for c in after.cells] == [c.get("outputs") for c in before.cells]
    edit(book, INSTALL, INSTALL.replace("install", "other"))
    assert "changed since" in pairs.why_stale(source(book), "cpu")


def test_refresh_names_what_is_stale_and_runs_it_when_asked(book, capsys, monkeypatch):
    pretend_run(book)
    edit(book, "secret = 42", "secret = 43")
    ran = []
    monkeypatch.setattr(tool, "execute", lambda path, profile, root: ran.append(path.stem))
    tool.refresh(book, "cpu")
    assert ran == [] and "note: outputs of demo: its code" in capsys.readouterr().out
    tool.refresh(book, "cpu", "stale")
    assert ran == ["demo"]
    source(book).with_suffix(".ipynb").unlink()
    tool.refresh(book, "cpu")  # nothing to show yet
    assert ran == ["demo", "demo"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("secret = 42", "secret = 43"),
        ("axes.plot([0, 1]);", "axes.plot([0, 1])"),
        ("gentok.nn.wavelet import haar2d", "gentok.nn.wavelet import inverse_haar2d as haar2d"),
    ],
)
def test_changed_code_is_stale(book, old, new):
    pretend_run(book)
    edit(book, old, new)
    assert "changed since" in pairs.why_stale(source(book), "cpu")


RECORD = {
    "system": "demo",
    "experiments": {
        "losses": {
            "made": {"ended": "", "machine": {}, "versions": {}, "code": ""},
            "seconds": 1, "seeds": [0, 1], "gates": [], "renewals": [],
            "rows": [{"variant": "a", "seed": 0, "mse": 1.0}],
        }
    },
}  # fmt: skip
STUDY = """
# %%
from gentok.nn.wavelet import haar2d


def train(seed):
    return {"mse": haar2d(seed)}


study.ablate("losses", train, {"a": {}})
"""


def write_record(book, **changes):
    """A record of the demo's one experiment, made by its code as it is now."""
    found = slices.experiment_closure(slices.code_cells(source(book)), "losses")
    record = copy.deepcopy(RECORD)
    record["experiments"]["losses"]["made"]["code"] = found.digest() if found else ""
    record["experiments"]["losses"] |= changes
    folder = book / "book" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "demo.json").write_text(json.dumps(record))


def test_stale_experiments_are_named(book):
    source(book).write_text(SOURCE + STUDY)
    write_record(book)
    assert stale_records(book) == {}
    edit(book, "axes.plot([0, 1])", "axes.plot([0, 2])")
    assert stale_records(book) == {}
    edit(book, "haar2d(seed)}", "-haar2d(seed)}")
    assert "changed since" in stale_records(book)["demo: losses"]
    renewed = slices.experiment_closure(slices.code_cells(source(book)), "losses").digest()
    made = {"ended": "", "machine": {}, "versions": {}, "code": "0"}
    write_record(book, made=made, renewals=[{"commit": "", "code": renewed, "by": "replay"}])
    assert stale_records(book) == {}
    edit(book, '"losses", train', '"others", train')
    assert "nothing here makes it" in stale_records(book)["demo: losses"]
    (book / "book" / "results" / "demo.json").write_text("{")
    assert "cannot be read" in stale_records(book)["demo"]


def test_outputs_are_stale_when_the_rows_that_they_show_change(book):
    write_record(book)
    pretend_run(book)
    assert pairs.why_stale(source(book), "cpu") == ""
    write_record(book, rows=[{"variant": "a", "seed": 0, "mse": 2.0}])
    assert "changed since" in pairs.why_stale(source(book), "cpu")


def test_a_run_can_stop_after_one_experiment(book):
    source(book).write_text(SOURCE + STUDY + "\n# %%\nlast = 1\n")
    notebook = pairs.read_source(source(book))
    tool.cut(notebook, "losses")
    assert notebook.cells[-1].source.endswith('study.ablate("losses", train, {"a": {}})')
    with pytest.raises(ValueError, match="no experiment 'sizes'; there are: losses"):
        tool.cut(notebook, "sizes")


def test_student_copies_hold_no_solutions(book):
    pretend_run(book)
    path = tool.student(book) / "latents" / "demo.ipynb"
    text = path.read_text()
    assert "{exercise} One" in text and "profile" in text
    for secret in ("solution", "secret", "Hidden words", "out of"):
        assert secret not in text
    nbformat.validate(nbformat.read(path, as_version=4))


def test_student_refuses_an_open_solution(book):
    edit(book, "# ```{solution-end}", "# ```{note}")
    with pytest.raises(ValueError, match="no {solution-end}"):
        tool.student(book)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["execute", "nope"], 2, "unknown notebook 'nope'; there are: demo"),
        (["stale"], 1, "no outputs yet"),
        (["pairs"], 1, "demo"),
        (["student"], 0, "_build/student"),
        (["slides"], 0, "no cell is tagged slide yet"),
    ],
)
def test_exit_codes(book, capsys, arguments, code, message):
    assert tool.main(arguments) == code
    captured = capsys.readouterr()
    assert message in captured.out + captured.err


def test_outside_the_book_is_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pairs, "__file__", str(tmp_path / "pairs.py"))
    assert tool.main(["pairs"]) == 2
    assert "notebooks/jupytext.toml" in capsys.readouterr().err


def test_the_tool_starts_without_heavy_packages():
    heavy = "{'torch', 'papermill', 'jupytext'}"
    code = f"import sys, gentok.book.notebook; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def command(*arguments):
    line = [sys.executable, "-m", "gentok.book.notebook", *arguments]
    return subprocess.run(line, capture_output=True, text=True)


@pytest.mark.slow
def test_a_run_from_end_to_end(book):
    run = command("execute", "demo", "--profile", "smoke")
    assert run.returncode == 0, run.stderr
    first = source(book).with_suffix(".ipynb").read_bytes()
    done = pairs.read_pair(source(book))
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    assert code[1].outputs[0].text == "smoke haar2d\n"
    assert len(code[1].outputs) == 1, "the progress bar should be gone"
    assert "image/png" in code[2].outputs[0].data
    assert done.metadata.gentok.profile == "smoke"
    assert "papermill" not in first.decode() and "injected" not in first.decode()

    assert "no change" in command("execute", "demo", "--profile", "smoke").stdout
    assert source(book).with_suffix(".ipynb").read_bytes() == first


@pytest.mark.slow
def test_a_failing_cell_keeps_the_committed_outputs(book):
    pretend_run(book)
    before = source(book).with_suffix(".ipynb").read_bytes()
    edit(book, "secret = 42", "secret = 1 / 0")
    run = command("execute", "demo")
    assert run.returncode == 1
    assert "ZeroDivisionError" in run.stderr
    assert source(book).with_suffix(".ipynb").read_bytes() == before


@pytest.mark.slow
def test_a_study_that_records_nothing_says_so(book):
    run = command("study", "demo")
    assert run.returncode == 2
    assert "does it call Study.ablate()?" in run.stderr
