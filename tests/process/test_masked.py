"""Masked-token generation: schedule, masks and re-masking."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.process.masked import num_masked_after, random_mask, remask, sample_categorical


@pytest.mark.parametrize(
    ("num_tokens", "visible"),
    [(256, [5, 20, 44, 75, 114, 159, 207, 256]), (64, [2, 5, 11, 19, 29, 40, 52, 64])],
)
def test_schedule_equals_the_published_counts(num_tokens, visible):
    # ENAT's sampler with 8 steps
    assert [num_tokens - num_masked_after(s, 8, num_tokens) for s in range(8)] == visible


@given(st.integers(1, 40), st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_schedule_only_reveals(num_steps, num_tokens):
    hidden = [num_tokens] + [num_masked_after(s, num_steps, num_tokens) for s in range(num_steps)]
    assert hidden[-1] == 0 and all(b <= a for a, b in zip(hidden, hidden[1:], strict=False))


def test_random_masks_hide_exactly_so_many_and_everywhere():
    torch.manual_seed(0)
    mask = random_mask(4000, 10, 3)
    assert (mask.sum(-1) == 3).all()
    assert (mask.float().mean(0) - 0.3).abs().max() < 0.03


def test_remask_hides_the_least_confident_and_never_the_certain():
    confidence = torch.tensor([[0.3, torch.inf, 0.1, 0.2], [torch.inf, 0.5, 0.4, torch.inf]])
    hidden = remask(confidence, 2)
    assert hidden.tolist() == [[False, False, True, True], [False, True, True, False]]


def test_ties_hide_exactly_so_many():
    assert remask(torch.zeros(5, 8), 3).sum(-1).tolist() == [3] * 5


def test_draws_follow_the_distribution():
    torch.manual_seed(0)
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = sample_categorical(p.log().expand(50_000, 4))
    seen = torch.bincount(draws, minlength=4) / 50_000
    assert (seen - p).abs().max() < 0.01


def test_steps_outside_are_refused():
    with pytest.raises(ValueError, match="step"):
        num_masked_after(8, 8, 64)
