"""How training shows where it is: a bar in a notebook or a terminal, now and then a line in a file.

The bars are `tqdm`'s in a notebook and `rich`'s in a terminal. A notebook that is stored does not
keep its bars (`gentok.pairs.tidy_outputs`), so running it again saves the same bytes.
"""

import sys
import warnings
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
    """No bar: the caller wants none, or another process shows it."""

    def update(self, done: int, note: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class Lines:
    """A plain line on standard error now and then, for a log file or a pipe."""

    def __init__(self, start: int, total: int, every: int):
        self.total, self.every = total, every
        self.printed = start

    def update(self, done: int, note: str) -> None:
        """Print a line if ``every`` steps have passed since the last one, or the run is over."""
        if done - self.printed >= self.every or done == self.total > self.printed:
            self.printed = done
            print(f"step {done}/{self.total}  {note}".rstrip(), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to leave: every line stands."""


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
    """A tqdm bar: a widget where `ipywidgets` is installed, else a line that is written over."""

    def __init__(self, start: int, total: int):
        with warnings.catch_warnings():
            # Without ipywidgets tqdm warns once and takes its text bar, which serves as well.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm

            self.bar = tqdm(desc="train", initial=start, total=total, dynamic_ncols=True)

    def update(self, done: int, note: str) -> None:
        """Move the bar."""
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Leave the last state."""
        self.bar.close()


def progress_bar(start: int, total: int, wanted: bool, every: int) -> Bar:
    """Choose what suits where standard error goes.

    Args:
        start: steps that were done before, in an earlier run.
        total: steps in all.
        wanted: False for nothing at all.
        every: least steps between two lines, where standard error is a file or a pipe.
    """
    if not wanted:
        return Silent()
    if start >= total and not _in_notebook():
        print(f"complete already: {total} of {total} steps", file=sys.stderr, flush=True)
        return Silent()
    if _in_notebook():
        return NotebookBar(start, total)
    return TerminalBar(start, total) if sys.stderr.isatty() else Lines(start, total, every)


def _in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")
