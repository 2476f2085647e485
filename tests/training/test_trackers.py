"""TensorBoard's curves: what a run hands over, and what TensorBoard itself reads back."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
from toy_training import train_game

from gentok.training.trackers import tracking

STEPS = 21


def curves(history) -> dict[str, list[tuple[int, float]]]:
    """Column -> (step, value) of each row."""
    names = dict.fromkeys(name for row in history for name in row)
    return {n: [(int(r["step"]), r[n]) for r in history if n in r] for n in names}


class Writer:
    """Stands for TensorBoard's writer where that is not installed."""

    made: list["Writer"] = []

    def __init__(self, folder):
        self.folder, self.scalars, self.closed = folder, {}, False
        Writer.made.append(self)

    def add_scalar(self, name, value, global_step):
        """As SummaryWriter."""
        self.scalars.setdefault(name, []).append((global_step, value))

    def flush(self):
        """As SummaryWriter."""

    def close(self):
        """As SummaryWriter."""
        self.closed = True


def test_every_row_of_the_history_is_handed_over(tmp_path, monkeypatch):
    Writer.made.clear()
    find = importlib.util.find_spec
    known = lambda name: True if name == "tensorboard" else find(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", known)
    stand_in = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    monkeypatch.setattr("torch.utils.tensorboard", stand_in, raising=False)
    with tracking("tensorboard"):
        history = train_game(tmp_path / "run.safetensors", STEPS).history
    (writer,) = Writer.made
    assert writer.folder == str(tmp_path / "run.tensorboard") and writer.closed
    assert writer.scalars == curves(history) and {"net/loss", "lr"} <= set(writer.scalars)
    assert [step for step, _ in writer.scalars["net/loss"]] == list(range(STEPS))


def test_no_curves_unless_asked_for(tmp_path):
    train_game(tmp_path / "run.safetensors", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_tensorboard_reads_the_events_of_a_run(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracking("tensorboard"):
        history = train_game(tmp_path / "run.safetensors", STEPS).history
    read = EventAccumulator(str(tmp_path / "run.tensorboard")).Reload()
    wanted = curves(history)
    assert set(read.Tags()["scalars"]) == set(wanted)
    for name, rows in wanted.items():
        found = [(event.step, event.value) for event in read.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in rows]
        assert [value for _, value in found] == pytest.approx([v for _, v in rows], rel=1e-6)
