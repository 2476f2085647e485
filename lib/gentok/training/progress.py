"""One progress bar for training, in a terminal or in a notebook, and silence everywhere else.

In a notebook the bar is one output that is replaced while training runs. What stays in the saved
notebook names no time, so running it again with the same seed saves the same bytes.
"""

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar(Protocol):
    """What the trainer needs of a bar."""

    def update(self, done: int, note: str) -> None:
        """Show that ``done`` steps are complete, with a short note such as the loss."""

    def close(self) -> None:
        """Leave the last state standing."""


class Silent:
    """No bar: the output is a file or a pipe, or the caller wants none."""

    def update(self, done: int, note: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class TerminalBar:
    """A rich bar on standard error."""

    def __init__(self, start: int, total: int):
        self.progress = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task("train", total=total, completed=start, note="")
        self.progress.start()

    def update(self, done: int, note: str) -> None:
        """Move the bar."""
        self.progress.update(self.task, completed=done, note=note)

    def close(self) -> None:
        """Stop redrawing."""
        self.progress.stop()


class NotebookBar:
    """A single line of text in a notebook, replaced at most four times a second."""

    width = 30  # characters

    def __init__(self, start: int, total: int):
        from IPython.display import display

        self.start, self.total, self.began, self.shown = start, total, time.monotonic(), 0.0
        self.last = (start, "")
        self.handle = display({"text/plain": self._line(start, "")}, raw=True, display_id=True)

    def update(self, done: int, note: str) -> None:
        """Replace the line, unless the last replacement is less than 0.25 s old."""
        self.last = (done, note)
        now = time.monotonic()
        if now - self.shown > 0.25:
            self.shown = now
            left = (now - self.began) / max(done - self.start, 1) * (self.total - done)
            line = f"{self._line(done, note)}, {left:.0f} s left"
            self.handle.update({"text/plain": line}, raw=True)

    def close(self) -> None:
        """Leave the last state, without a time."""
        self.handle.update({"text/plain": self._line(*self.last)}, raw=True)

    def _line(self, done: int, note: str) -> str:
        full = self.width * done // max(self.total, 1)
        line = f"train {'█' * full}{'░' * (self.width - full)} {done}/{self.total}"
        return f"{line}  {note}" if note else line


def progress_bar(start: int, total: int, wanted: bool) -> Bar:
    """Choose the bar that suits where standard error goes.

    Args:
        start: steps that were done before, in an earlier run.
        total: steps in all.
        wanted: False for no bar at all.
    """
    if not wanted:
        return Silent()
    if _in_notebook():
        return NotebookBar(start, total)
    return TerminalBar(start, total) if sys.stderr.isatty() else Silent()


def _in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")
