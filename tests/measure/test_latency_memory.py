"""Time and memory of calls: order and counts, no times."""

import pytest
import torch
from torch import nn

from gentok.measure.latency import latencies
from gentok.measure.memory import peak_rise, saved_bytes


def test_calls_take_turns_and_warm_up():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    found = latencies(calls, repeats=3, warmup=2)
    assert order == ["a", "b"] * 5
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 3, "b": 3}
    assert all(second >= 0 for seconds in found.values() for second in seconds)
    with pytest.raises(ValueError, match="need calls and repeats"):
        latencies({}, repeats=3)


def test_saved_bytes_by_hand():
    x = torch.zeros(8, 16, requires_grad=True)
    assert saved_bytes(lambda: x.exp()) == 8 * 16 * 4  # exp keeps its result
    assert saved_bytes(lambda: x + 1) == 0
    assert saved_bytes(lambda: x.exp() * x.exp()) == 2 * 8 * 16 * 4
    assert saved_bytes(lambda: x * x) == 8 * 16 * 4  # one storage, kept twice
    with torch.no_grad():
        assert saved_bytes(lambda: x.exp()) == 0


def test_recomputation_keeps_less():
    net = nn.Sequential(*[nn.Sequential(nn.Linear(32, 32), nn.Tanh()) for _ in range(4)])
    x = torch.zeros(64, 32, requires_grad=True)
    checkpoint = torch.utils.checkpoint.checkpoint
    assert saved_bytes(lambda: net(x)) > 4 * 64 * 32 * 4
    assert saved_bytes(lambda: checkpoint(net, x, use_reentrant=False)) == 64 * 32 * 4  # x alone


def test_the_peak_sees_a_large_tensor():
    rise = peak_rise(lambda: torch.ones(64, 2**20).sum())  # 256 MiB
    assert 200 < rise < 400
