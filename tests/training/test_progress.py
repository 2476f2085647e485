"""The progress bar: one replaced line in a notebook, silence in a pipe."""

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from gentok.training import progress


@pytest.fixture
def outputs(monkeypatch):
    """Stand in for a Jupyter kernel; the list holds every state of the one output."""
    shown = []
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))

    def display(data, raw, display_id):
        shown.append(data["text/plain"])
        return handle

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    return shown


def test_notebook_bar_is_one_line_and_its_last_state_names_no_time(outputs):
    bar = progress.progress_bar(0, 1000, wanted=True)
    for step in range(1, 1001):
        bar.update(step, f"loss {1 / step:.2f}")
    bar.close()
    assert len(outputs) < 20, "floods the notebook"
    assert outputs[-1] == f"train {'█' * 30} 1000/1000  loss 0.00"
    assert all("\n" not in line and len(line) < 80 for line in outputs)


def test_notebook_bar_shows_where_a_run_stopped(outputs):
    bar = progress.progress_bar(10, 100, wanted=True)
    bar.update(50, "loss 1")
    bar.close()
    assert outputs[0].endswith("10/100") and outputs[-1].endswith("50/100  loss 1")


def test_unwanted_or_unseen_bars_are_silent(outputs, monkeypatch):
    assert isinstance(progress.progress_bar(0, 9, wanted=False), progress.Silent)
    monkeypatch.delitem(sys.modules, "IPython")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(progress.progress_bar(0, 9, wanted=True), progress.Silent)
    assert outputs == []


def test_terminal_bar_writes_to_standard_error(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda stderr: Console(file=terminal, force_terminal=True, width=100)
    )
    bar = progress.TerminalBar(0, 4)
    bar.update(4, "loss 0.5")
    bar.close()
    assert "4/4" in terminal.getvalue() and "loss 0.5" in terminal.getvalue()
