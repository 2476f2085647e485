"""The benchmark tool itself: what it measures, says and skips. Times are never tested."""

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import __main__ as tool
from benchmarks.measure import Row, Workload, run
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent


def test_both_sides_take_turns():
    calls = []
    work = Workload("w", "p", 1.0, lambda: (lambda: calls.append("a"), lambda: calls.append("b")))
    row = run(work, rounds=4, round_seconds=1e-5)
    assert calls[:2] == ["a", "b"]
    changes = sum(x != y for x, y in zip(calls[4:], calls[5:], strict=False))
    assert changes == 7, "four rounds of two sides change hands seven times"
    assert row.low <= row.ratio <= row.high


def test_more_work_costs_more():
    def busy(n):
        return lambda: sum(i * i for i in range(n))

    row = run(Workload("w", "p", 1.0, lambda: (busy(2_000), busy(40_000))), 3, 1e-3)
    assert row.ratio > 5


def test_page_shows_every_row_and_says_what_was_skipped():
    row = Row("the work", "the peer", 2.0, 1.0, 1.5, 1.5, 1.4, 1.6)
    text = tool.page([row], ["other work: the peer is not installed (x)"], threads=1)
    assert "| the work | the peer | 1.00 | 1.50 | 1.50 | 1.40 to 1.60 | 2 | no |" in text
    assert "other work" in text


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.make.__name__)
def test_both_sides_run(workload):
    try:
        ours, peer = workload.make()
    except ImportError as error:
        pytest.skip(f"peer not installed: {error.name}")
    ours(), peer()


def test_unknown_workload_is_one_clear_line():
    command = [sys.executable, "-m", "benchmarks", "--only", "no such work", "--no-page"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "no workload contains" in result.stderr
    assert "Traceback" not in result.stderr
