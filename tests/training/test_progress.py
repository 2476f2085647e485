"""Progress: a bar in a notebook or a terminal, now and then a line in a file."""

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from gentok.training import progress


@pytest.fixture
def kernel(monkeypatch):
    """Stand in for a Jupyter kernel; what the text bar writes is in the buffer."""
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


def test_a_notebook_gets_tqdm(kernel):
    from tqdm import tqdm

    bar = progress.progress_bar(10, 100, wanted=True, every=1)
    assert isinstance(bar, progress.NotebookBar) and isinstance(bar.bar, tqdm)
    bar.update(50, "loss 1")
    assert (bar.bar.n, bar.bar.total, bar.bar.initial) == (50, 100, 10)
    bar.update(100, "loss 0.5")
    bar.close()
    assert bar.bar.n == 100 and bar.bar.postfix == "loss 0.5"


def test_a_pipe_gets_a_line_now_and_then(monkeypatch):
    pipe = io.StringIO()
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys, "stderr", pipe)
    bar = progress.progress_bar(40, 245, wanted=True, every=100)
    for done in range(50, 246, 5):
        bar.update(done, f"loss {1 / done:.3f}")
    bar.close()
    assert pipe.getvalue() == (
        "step 140/245  loss 0.007\nstep 240/245  loss 0.004\nstep 245/245  loss 0.004\n"
    )


def test_unwanted_bars_are_silent(kernel):
    bar = progress.progress_bar(0, 9, wanted=False, every=1)
    bar.update(9, "loss 1")
    bar.close()
    assert isinstance(bar, progress.Silent) and kernel.getvalue() == ""


def test_terminal_bar_writes_to_standard_error(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda stderr: Console(file=terminal, force_terminal=True, width=100)
    )
    bar = progress.TerminalBar(0, 4)
    bar.update(4, "loss 0.5")
    bar.close()
    assert "4/4" in terminal.getvalue() and "loss 0.5" in terminal.getvalue()
