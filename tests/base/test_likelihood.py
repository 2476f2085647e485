"""The two likelihood measures against a network whose answers are known."""

import math

import pytest
import torch

from gentok.base.masked.groups import State
from gentok.base.masked.likelihood import decoding_nll, grid_nll, masked_nll
from gentok.base.masked.unmask import mask_schedule

N, K = 16, 8


class Oracle(torch.nn.Module):
    """Gives the true code a logit of ``strength``; writes down masks and earlier states."""

    def __init__(self, codes, strength):
        super().__init__()
        self.codes, self.strength, self.calls = codes, strength, []

    def forward(self, codes, label, mask, previous=None):
        self.calls.append((mask, previous))
        logits = torch.nn.functional.one_hot(self.codes, K).float() * self.strength
        return logits, State(torch.zeros(len(codes), N, 2), mask)


@pytest.fixture
def grids():
    torch.manual_seed(0)
    return torch.randint(0, K, (5, N)), torch.randint(0, 3, (5,))


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_values_in_nats_a_hidden_token(grids, strength):
    oracle = Oracle(grids[0], strength)
    expected = math.log(K - 1 + math.exp(strength)) - strength  # log K for strength 0
    values = masked_nll(oracle, *grids, (0.25, 1.0))
    values += decoding_nll(oracle, *grids, num_steps=4)
    values += [grid_nll(oracle, *grids, num_steps=steps) for steps in (1, 4)]
    assert values == pytest.approx([expected] * 8, rel=1e-5)


def test_grid_charges_each_token_once_in_the_step_that_reveals_it(grids):
    """An oracle whose confidence depends on the step: its costs are weighted by tokens revealed."""

    class Ageing(Oracle):
        def forward(self, codes, label, mask, previous=None):
            self.strength = float(len(self.calls))
            return super().forward(codes, label, mask, previous)

    counts = mask_schedule(N, 4)
    costs = [math.log(K - 1 + math.exp(s)) - s for s in range(4)]
    revealed = [a - b for a, b in zip(counts, counts[1:], strict=False)]
    expected = sum(c * n for c, n in zip(costs, revealed, strict=True)) / N
    value = grid_nll(Ageing(grids[0], 0.0), *grids, num_steps=4)
    assert value == pytest.approx(expected, rel=1e-5)


def test_masks_have_the_ratios_and_are_the_same_for_every_network(grids):
    first, second = Oracle(grids[0], 0.0), Oracle(grids[0], 1.0)
    for oracle in (first, second):
        torch.manual_seed(len(oracle.calls))  # the caller's generator does not matter
        masked_nll(oracle, *grids, (0.01, 0.5, 1.0))
    sizes = [sorted({int(n) for n in mask.sum(1)}) for mask, _ in first.calls]
    assert sizes == [[1], [8], [16]]
    for (mask, _), (again, _) in zip(first.calls, second.calls, strict=True):
        assert torch.equal(mask, again)


def test_decoding_follows_the_schedule_and_hands_states_over(grids):
    oracle = Oracle(grids[0], 0.0)
    decoding_nll(oracle, *grids, num_steps=4)
    masks = [mask for mask, _ in oracle.calls]
    assert [int(mask[0].sum()) for mask in masks] == mask_schedule(N, 4)[:-1]
    assert not any((b & ~a).any() for a, b in zip(masks, masks[1:], strict=False))
    assert oracle.calls[0][1] is None
    for (mask, _), (_, previous) in zip(oracle.calls, oracle.calls[1:], strict=False):
        assert torch.equal(previous.mask, mask)
    oracle.calls.clear()
    decoding_nll(oracle, *grids, num_steps=4, reuse=False)
    assert all(previous is None for _, previous in oracle.calls)


def test_bad_ratio(grids):
    with pytest.raises(ValueError, match=r"ratios must lie in \(0, 1\]"):
        masked_nll(Oracle(grids[0], 0.0), *grids, (0.5, 0.0))
