"""The runs of an experiment: one for each arm and seed, side by side, and none lost.

Every finished run is on disk at once, in ``_build/study/<slug>/<experiment>/``, so that a study
that is killed goes on where it was and ends with the same rows. A run is known by the code that it
reaches, its arm's arguments and its seed: after a change of any of these it is made anew.
"""

import copyreg
import functools
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gentok.book.records import described, finite, plain, write_whole
from gentok.data import folder

CACHED = type(functools.cache(id))

Train = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run of an experiment: which arm, with which arguments, and which seed."""

    variant: str
    arm: dict[str, Any]
    seed: int

    def key(self, code: str) -> str:
        """What makes this run the one it is: code, arguments, seed and torch's version."""
        words = [code, self.variant, described(self.arm), self.seed, torch.__version__]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]

    def do(self, train: Train) -> dict[str, Any]:
        """Train with one thread, from torch's generator at the run's seed; returns the row."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            torch.manual_seed(self.seed)
            start = time.monotonic()
            metrics = {k: plain(v) for k, v in train(seed=self.seed, **self.arm).items()}
            seconds = round(time.monotonic() - start, 3)
        finally:
            torch.set_num_threads(threads)
        return {"variant": self.variant, "seed": self.seed, "seconds": seconds, **metrics}


class Journal:
    """The finished runs of one experiment, as files.

    Args:
        folder: where they lie; None keeps none.
        code: hash of the code that the experiment reaches.
    """

    def __init__(self, folder: Path | None, code: str):
        self.folder, self.code = folder, code

    def _path(self, run: Run) -> Path:
        return self.folder / f"{file_name(run.variant)}-{run.seed}.json"

    def find(self, run: Run) -> dict[str, Any] | None:
        """The row of a run that was finished before with the same code; None if there is none."""
        if self.folder is None or not self._path(run).is_file():
            return None
        entry = json.loads(self._path(run).read_text(encoding="utf-8"))
        if entry["key"] != run.key(self.code):
            return None
        folder.opened.update({name: Path(path) for name, path in entry["files"].items()})
        return entry["row"]

    def do(self, run: Run, train: Train) -> tuple[dict[str, Any], dict[str, str]]:
        """Run and write down.

        Returns:
            the row, and the data files that were opened so far in this process.
        """
        row = run.do(train)
        files = {name: str(path) for name, path in folder.opened.items()}
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            entry = {"key": run.key(self.code), "row": finite(row), "files": files}
            write_whole(self._path(run), json.dumps(entry, ensure_ascii=False))
        return row, files

    def clear(self) -> None:
        """Forget all runs: the experiment is recorded, and to measure it again is to run it."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def run_all(
    runs: list[Run],
    train: Train,
    journal: Journal,
    processes: int,
    title: str,
    known: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """The rows of all runs, in the order of the runs.

    Args:
        runs: what to run.
        train: ``train(seed=int, **arm)`` returns the run's metrics.
        journal: where finished runs are kept.
        processes: how many run side by side, each with one thread; joblib's loky carries functions
            of a notebook to them. With 1 they run here, in order.
        title: what the progress bar says.
        known: rows that are not to be run again.
    """
    from tqdm import tqdm

    done_before = {(row["variant"], row["seed"]): row for row in known or []}
    rows = [done_before.get((run.variant, run.seed)) or journal.find(run) for run in runs]
    todo = [place for place, row in enumerate(rows) if row is None]
    done = len(runs) - len(todo)
    with tqdm(total=len(runs), initial=done, desc=title, leave=False, unit="run") as bar:
        for place, row, files in _work(runs, todo, train, journal, processes):
            folder.opened.update({name: Path(path) for name, path in files.items()})
            rows[place] = row
            bar.update()
    return rows


def _work(
    runs: list[Run], todo: list[int], train: Train, journal: Journal, processes: int
) -> Iterator[tuple[int, dict[str, Any], dict[str, str]]]:
    """Do some of the runs, yielding each as it is finished: its place, its row, its data files."""
    if processes == 1 or len(todo) < 2:
        yield from ((place, *journal.do(runs[place], train)) for place in todo)
        return
    import joblib

    copyreg.pickle(CACHED, _carried)
    work = joblib.Parallel(n_jobs=processes, return_as="generator_unordered")
    yield from work(joblib.delayed(_one)(journal, place, runs[place], train) for place in todo)


def _carried(function: Any) -> str | tuple:
    """How a function under ``functools.cache`` goes to another process.

    One of an imported module goes by its name. One of a notebook is wrapped anew there, with an
    empty cache: a name in ``__main__`` leads to nothing in the other process.
    """
    if function.__module__ != "__main__":
        return function.__qualname__
    return functools.lru_cache(**function.cache_parameters()), (function.__wrapped__,)


def _one(journal: Journal, place: int, run: Run, train: Train) -> tuple:
    return place, *journal.do(run, train)


def file_name(words: str) -> str:
    """A name that any file system takes, and that differs where the words differ."""
    mark = hashlib.sha256(words.encode()).hexdigest()[:6]
    return f"{re.sub(r'[^A-Za-z0-9.]+', '_', words).strip('_')[:40]}-{mark}"
