"""Keep notebooks and their outputs in step: `python -m gentok.book.notebook --help`.

The `.ipynb` of a notebook is written only here, from its source: by `execute` (papermill runs the
cells) or, when only text changed, by `sync` (outputs are kept). Both write the same bytes when
nothing changed, so a difference in version control is always a real one.

Heavy packages are imported inside the functions that need them: this module starts fast.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from gentok.book.pairs import (
    find_root,
    give_ids,
    in_step,
    outputs_hash,
    read_pair,
    read_source,
    source_of,
    sources,
    sync,
    tags_of,
    tidy_outputs,
    why_stale,
    write,
)
from gentok.book.staleness import stale_records

__all__ = [
    "execute",
    "refresh",
    "run",
    "slides",
    "student",
    "study",
    "without_solutions",
]

PROFILES = ("smoke", "probe", "cpu", "study", "gpu")
CELL_SECONDS = {"smoke": 120, "probe": 600, "cpu": 600, "study": 7200, "gpu": 24 * 3600}


def run(path: Path, profile: str, scratch: Path, until: str = ""):
    """Run a notebook by papermill in its own folder and return it with its outputs.

    Args:
        path: its source.
        profile: given to the cell tagged `parameters`, and as GENTOK_PROFILE to the kernel.
        scratch: file for the run as it stands, cell by cell; it stays when a cell fails.
        until: stop after the cell that makes this experiment.

    Raises:
        ValueError: if the notebook has no such experiment.
        papermill.PapermillExecutionError: if a cell fails.
    """
    import nbformat
    import papermill

    notebook = read_source(path)
    give_ids(notebook, read_pair(path))
    if until:
        cut(notebook, until)
    os.environ["GENTOK_PROFILE"] = profile
    scratch.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.with_suffix(".ipynb").name
        nbformat.write(notebook, plain)
        papermill.execute_notebook(
            plain,
            scratch,
            parameters={"profile": profile},
            kernel_name="python3",
            cwd=path.parent,
            progress_bar=False,
            execution_timeout=CELL_SECONDS[profile],
            start_timeout=120,
        )
    done = nbformat.read(scratch, as_version=4)
    done.cells = [cell for cell in done.cells if "injected-parameters" not in tags_of(cell)]
    for cell in done.cells:
        if cell.cell_type == "code":
            tidy_outputs(cell)
    return done


def cut(notebook, experiment: str) -> None:
    """Leave out the cells after the one that makes an experiment.

    Raises:
        ValueError: if none does; names the experiments there are.
    """
    from gentok.book import slices

    for count, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code" and experiment in slices.experiment_names([cell]):
            notebook.cells = notebook.cells[:count]
            return
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    known = ", ".join(slices.experiment_names(code))
    raise ValueError(f"EXP: no experiment {experiment!r}; there are: {known or 'none'}")


def execute(path: Path, profile: str, root: Path) -> None:
    """Run a notebook and write its outputs over the committed ones, if every cell succeeded."""
    began = time.perf_counter()
    made = {"code": outputs_hash(path, profile), "profile": profile}
    done = run(path, profile, root / "_build" / "runs" / f"{path.stem}.ipynb")
    changed = write(done, path, made)
    seconds = time.perf_counter() - began
    print(f"executed {path.stem} ({profile}) in {seconds:.0f} s{'' if changed else ', no change'}")


def refresh(root: Path, profile: str, run: str = "new") -> None:
    """Carry over text changes, execute what is asked for, and name what is stale.

    Args:
        root: the book's folder.
        profile: that the outputs should be of.
        run: ``"new"`` executes notebooks that have no outputs yet; ``"stale"`` also those whose
            code changed, minutes each; ``"all"`` every one.
    """
    for path in sources(root):
        reason = "all were asked for" if run == "all" else why_stale(path, profile)
        if reason and (run != "new" or read_pair(path) is None):
            print(f"executing {path.stem}: {reason}", flush=True)
            execute(path, profile, root)
        elif reason:
            print(f"note: outputs of {path.stem}: {reason} (make execute NB={path.stem})")
        elif not in_step(path):
            sync(path)
            print(f"synced {path.stem}: its text changed")
    for name, reason in stale_records(root).items():
        print(f"note: record {name} is stale: {reason} (make renew or make study)")


def study(path: Path, root: Path, experiment: str = "", add_seeds: bool = False) -> None:
    """Run a notebook in the study profile; it writes book/results/<slug>.json itself.

    Args:
        path: the notebook's source.
        root: the book's folder.
        experiment: make this one anew and leave the record's others alone.
        add_seeds: keep recorded rows that the present code is known to give; run the rest.
    """
    began, record = time.time(), root / "book" / "results" / f"{path.stem}.json"
    if experiment:
        os.environ["GENTOK_EXPERIMENT"] = experiment
    if add_seeds:
        os.environ["GENTOK_ADD_SEEDS"] = "1"
    run(path, "study", root / "_build" / "study" / f"{path.stem}.ipynb", until=experiment)
    if not record.is_file() or record.stat().st_mtime < began - 1:
        raise ValueError(f"{path.stem} ran but wrote no {record}: does it call Study.ablate()?")
    print(f"wrote {record.relative_to(root)} in {time.time() - began:.0f} s")


_SOLUTION_BLOCK = re.compile(r"^(`{3,}|:{3,})\{solution\}.*?^\1[ \t]*$\n?", re.M | re.S)


def without_solutions(notebook):
    """A notebook as students get it: no solution cells or blocks, no outputs."""
    kept, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            inside = inside or "{solution-start}" in cell.source
            if inside:
                inside = "{solution-end}" not in cell.source
                continue
            cell.source = _SOLUTION_BLOCK.sub("", cell.source).strip()
            if cell.source:
                kept.append(cell)
        elif not inside and "solution" not in tags_of(cell):
            cell.outputs, cell.execution_count = [], None
            kept.append(cell)
    if inside:
        raise ValueError("a {solution-start} has no {solution-end}")
    notebook.cells = kept
    return notebook


def student(root: Path) -> Path:
    """Write every notebook without its solutions under _build/student/; returns that folder."""
    import nbformat

    folder = root / "_build" / "student"
    for path in sources(root):
        notebook = without_solutions(read_source(path))
        give_ids(notebook, None)
        target = folder / path.relative_to(root / "notebooks").with_suffix(".ipynb")
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
    return folder


def slides(root: Path) -> list[Path]:
    """Write a deck for every part, and for every notebook with cells tagged `slide`.

    They stand under _build/slides/: ``<slug>.html`` and ``part-<part>.html``.
    """
    from gentok.book.part_slides import part_deck
    from gentok.book.slides import deck

    folder, written = root / "_build" / "slides", []
    for page in sorted((root / "book" / "parts").glob("*.md")):
        folder.mkdir(parents=True, exist_ok=True)
        written.append(folder / f"part-{page.stem}.html")
        written[-1].write_text(part_deck(page), encoding="utf-8")
    for path in sources(root):
        notebook = read_pair(path)
        text = deck(notebook, path.stem) if notebook is not None else None
        if text is not None:
            folder.mkdir(parents=True, exist_ok=True)
            written.append(folder / f"{path.stem}.html")
            written[-1].write_text(text, encoding="utf-8")
    return written


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gentok.book.notebook", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, *, slug: bool = False, profile: bool = False):
        command = commands.add_parser(name, help=help)
        if slug:
            command.add_argument("slug", help="a notebook's slug, such as enat")
        if profile:
            command.add_argument("--profile", choices=PROFILES, default="cpu")
        return command

    add("execute", "run one notebook and store its outputs", slug=True, profile=True)
    measure = add("study", "run one notebook in the study profile; it writes its record", slug=True)
    measure.add_argument("--experiment", default="", help="make this experiment anew, no other")
    measure.add_argument(
        "--add-seeds", action="store_true", help="keep recorded rows that hold; run what is missing"
    )
    add("refresh", "execute what is new, carry text over to the rest", profile=True).add_argument(
        "--run", choices=("new", "stale", "all"), default="new", help="what to execute"
    )
    add("stale", "list stale notebooks and records (exit code 1 if any)", profile=True)
    add("pairs", "list pairs whose halves differ (exit code 1 if any)")
    add("student", "write copies without solutions under _build/student/")
    add("slides", "write a deck for every notebook with cells tagged slide under _build/slides/")
    return parser


def _run_command(options: argparse.Namespace, root: Path) -> int:
    if options.command == "execute":
        execute(source_of(options.slug, root), options.profile, root)
    elif options.command == "study":
        study(source_of(options.slug, root), root, options.experiment, options.add_seeds)
    elif options.command == "refresh":
        refresh(root, options.profile, options.run)
    elif options.command == "student":
        from gentok.book import assignments

        print(f"wrote {student(root)}")
        print(f"wrote {assignments.write(root)}")
    elif options.command == "slides":
        decks = [path.relative_to(root).as_posix() for path in slides(root)]
        print("\n".join(decks) or "no cell is tagged slide yet")
    elif options.command == "pairs":
        differing = [path.stem for path in sources(root) if not in_step(path)]
        print("\n".join(differing) or "all pairs are in step")
        return int(bool(differing))
    else:
        reasons = {path.stem: why_stale(path, options.profile) for path in sources(root)}
        reasons = {name: why for name, why in reasons.items() if why} | stale_records(root)
        print("\n".join(f"{name}: {why}" for name, why in reasons.items()) or "nothing is stale")
        return int(bool(reasons))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code (2: bad input, 1: stale, out of step or a failed cell)."""
    options = _parser().parse_args(arguments)
    try:
        return _run_command(options, find_root())
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; committed outputs are as they were", file=sys.stderr)
        return 130
    except Exception as error:
        if type(error).__name__ != "PapermillExecutionError":
            raise
        print(f"error: a cell failed\n{error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
