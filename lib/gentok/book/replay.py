"""Run a notebook of any commit in a small size, and keep every number and every output.

The notebook runs in a kernel of its own with that commit's library. A cell put before its first one
writes down what each experiment returned, so that commits work whose `Study` knows nothing of this.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROWS = "GENTOK_REPLAY"  # names the file that the rows go to
CELL_SECONDS = 1800
PREAMBLE = f"""
def _keep_rows():
    import functools, importlib, json, os

    for name in ("gentok.book.study", "gentok.study"):  # before the book had a folder of its own
        try:
            study = importlib.import_module(name).Study
            break
        except ModuleNotFoundError:
            continue
    ablate = study.ablate

    @functools.wraps(ablate)
    def kept(self, name, *args, **kwargs):
        runs = ablate(self, name, *args, **kwargs)
        with open(os.environ["{ROWS}"], "a", encoding="utf-8") as file:
            print(json.dumps([name, runs.to_dict("records")]), file=file)
        return runs

    study.ablate = kept


_keep_rows()
"""


@dataclass
class Replay:
    """What one run of a notebook gave.

    Args:
        rows: experiment -> its rows.
        outputs: for each code cell what it showed.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    outputs: list[list[Any]] = field(default_factory=list)


@contextmanager
def tree_of(commit: str, root: Path) -> Iterator[Path]:
    """A folder with the files of a commit, for as long as it is needed.

    Raises:
        ValueError: if there is no such commit.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        add = ["git", "-C", str(root), "worktree", "add", "-q", "--detach", str(tree), commit]
        done = subprocess.run(add, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"commit {commit[:12]} cannot be checked out: {done.stderr.strip()}")
        try:
            yield tree
        finally:
            remove = ["git", "-C", str(root), "worktree", "remove", "--force", str(tree)]
            subprocess.run(remove, capture_output=True)


def small_profile(*trees: Path) -> str:
    """``"probe"`` if all trees know it, else ``"smoke"``."""
    files = [tree / "lib" / "gentok" / "training" / "profiles.py" for tree in trees]
    known = all(file.is_file() and '"probe"' in file.read_text("utf-8") for file in files)
    return "probe" if known else "smoke"


def replay(tree: Path, slug: str, profile: str, until: str = "") -> Replay:
    """Run a notebook with its own tree's library.

    Args:
        tree: the folder of a commit.
        slug: the notebook's.
        profile: ``"probe"`` or ``"smoke"``.
        until: stop after the cell that makes this experiment.

    Raises:
        ValueError: if the tree has no such notebook, or a cell fails; says which.
    """
    import nbclient
    import nbformat

    from gentok.book.notebook import cut
    from gentok.book.pairs import read_source, source_of, that_compute, tidy_outputs

    path = source_of(slug, tree)
    notebook = read_source(path)
    if until:
        cut(notebook, until)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(PREAMBLE))
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "rows.jsonl"
        here = _environment(tree, profile, kept)
        client = nbclient.NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
        )
        try:
            client.execute(env={**os.environ, **here})
        except nbclient.exceptions.CellExecutionError as error:
            raise ValueError(f"{slug} at {tree}: a cell failed\n{error}") from error
        found = Replay(rows=_rows(kept))
    for cell in that_compute(notebook)[1:]:
        tidy_outputs(cell)
        found.outputs.append(shown(cell.outputs))
    return found


def replay_module(tree: Path, module: str, profile: str) -> Replay:
    """Run the ``main()`` of a module that makes a record, with its own tree's library.

    Raises:
        ValueError: if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "rows.jsonl"
        program = f"{PREAMBLE}\nimport importlib\nimportlib.import_module({module!r}).main()"
        line = [sys.executable, "-c", program]
        env = {**os.environ, **_environment(tree, profile, kept)}
        done = subprocess.run(line, cwd=tree, env=env, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{module} at {tree}: {done.stderr.strip()[-1000:]}")
        return Replay(rows=_rows(kept))


def _environment(tree: Path, profile: str, kept: Path) -> dict[str, str]:
    return {
        ROWS: str(kept),
        "PYTHONPATH": str(tree / "lib"),
        "GENTOK_PROFILE": profile,
        "OMP_NUM_THREADS": "1",
    }


def _rows(kept: Path) -> dict[str, list[dict[str, Any]]]:
    lines = kept.read_text("utf-8").splitlines() if kept.is_file() else []
    return dict(json.loads(line) for line in lines)


def shown(outputs: list[Any]) -> list[Any]:
    """Outputs without what counts how often cells ran, and with a stream's pieces in one.

    How a stream is cut into pieces depends on the moment at which the kernel sends them.
    """
    kept: list[Any] = []
    for output in outputs:
        left_out = ("execution_count", "metadata")
        one = json.loads(json.dumps({k: v for k, v in output.items() if k not in left_out}))
        last = kept[-1] if kept else {}
        if one.get("name") and one.get("name") == last.get("name"):
            last["text"] += one["text"]
        else:
            kept.append(one)
    return kept


def different_columns(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> set[str]:
    """Columns in which two lists of rows differ in any bit; ``variant`` if they are other runs."""
    runs = [[(row["variant"], row["seed"]) for row in rows] for rows in (a, b)]
    if runs[0] != runs[1]:
        return {"variant"}
    found = set()
    for one, two in zip(a, b, strict=True):
        found |= {k for k in one.keys() | two.keys() if _bits(one, k) != _bits(two, k)}
    return found


def different_cells(a: list[list[Any]], b: list[list[Any]]) -> set[int]:
    """Places of code cells that showed different things."""
    places = range(max(len(a), len(b)))
    return {n for n in places if n >= min(len(a), len(b)) or _dump(a[n]) != _dump(b[n])}


def _bits(row: dict[str, Any], column: str) -> str:
    return _dump(row[column]) if column in row else "absent"


def _dump(value: Any) -> str:
    """Text that holds every bit of every number, so that NaN equals itself."""
    return json.dumps(value, sort_keys=True)
