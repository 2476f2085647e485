"""Curves for other programs: a CSV file, or TensorBoard's, beside the checkpoint of a run.

The trackers are accelerate's; the one for CSV is ours, since accelerate has none.
"""

import csv
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, TensorBoardTracker

from gentok.training.stages import SUFFIX

KINDS = ("csv", "tensorboard")
_wanted: ContextVar[str | None] = ContextVar("tracker", default=None)
Row = dict[str, float]


@contextmanager
def tracking(kind: str | None) -> Iterator[None]:
    """Every `gentok.training.fit` in the block that has a checkpoint writes its curves, too.

    Args:
        kind: ``"csv"`` (``runs/a.csv`` for ``runs/a.safetensors``), ``"tensorboard"``
            (``runs/a.tensorboard/``), or None for neither.

    Raises:
        ValueError: if it is another, or what it needs is not installed.
    """
    check_kind(kind)
    token = _wanted.set(kind)
    try:
        yield
    finally:
        _wanted.reset(token)


def check_kind(kind: str | None) -> None:
    """Refuse a kind of log that cannot be written.

    Raises:
        ValueError: if it is unknown, or what it needs is not installed.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"unknown kind of log {kind!r}; accepted: {', '.join(KINDS)}")
    if kind == "tensorboard" and not any(
        importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX")
    ):
        raise ValueError("a log for tensorboard needs it installed: pip install tensorboard")


def tracker_for(out: Path | None, history: list[Row]) -> GeneralTracker | None:
    """The tracker of a run, or None if none is wanted or the run keeps no checkpoint.

    Args:
        out: the run's checkpoint.
        history: rows that an earlier run has logged.
    """
    kind = _wanted.get()
    if kind is None or out is None:
        return None
    name = out.name.removesuffix(SUFFIX)
    if kind == "csv":
        return CSVTracker(out.with_name(f"{name}.csv"), history)
    tracker = TensorBoardTracker(f"{name}.tensorboard", logging_dir=str(out.parent))
    tracker.start()
    return tracker


class CSVTracker(GeneralTracker):
    """A row a step. A new column rewrites the file; a resumed run begins with its own history.

    Args:
        path: the file to write.
        history: rows from before.
    """

    name = "csv"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, path: Path, history: list[Row]):
        super().__init__()
        self.path, self.rows = path, list(history)
        self.columns: list[str] = []
        self._write_all()

    @property
    def tracker(self) -> Path:
        """The file."""
        return self.path

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Nothing: the checkpoint beside the file holds the settings."""

    def log(self, values: Row, step: int | None = None, **kwargs: Any) -> None:
        """Add a row."""
        self.rows.append(dict(values))
        if set(values) - set(self.columns):
            self._write_all()
            return
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(values)

    def finish(self) -> None:
        """Nothing: every row stands."""

    def _write_all(self) -> None:
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, self.columns)
            table.writeheader()
            table.writerows(self.rows)
