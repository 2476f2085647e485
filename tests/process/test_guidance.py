"""Classifier-free guidance: channels left alone, and logits of -inf."""

import pytest
import torch

from gentok.process.guidance import guide
from gentok.process.masked import sample_categorical


@pytest.mark.parametrize("scale", [0, 0.0, 0.5, 1.0, 2.5, -1.0])
def test_finite_answers_are_extrapolated_bit_for_bit(scale):
    c, u = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    assert torch.equal(guide(c, u, scale), u + scale * (c - u))


def test_only_the_first_channels_are_guided():
    c, u = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    out = guide(c, u, 3.0, guided_channels=3)
    assert torch.equal(out[:, :3], guide(c, u, 3.0)[:, :3]) and torch.equal(out[:, 3:], c[:, 3:])
    assert torch.equal(guide(c, u, 3.0, guided_channels=4), guide(c, u, 3.0))


@pytest.mark.parametrize("scale", [0.5, 1.5, 5.0])
def test_what_either_answer_forbids_stays_forbidden(scale):
    low = -torch.inf
    c, u = torch.tensor([0.0, low, low, 1.0]), torch.tensor([0.0, low, 2.0, low])
    out = guide(c, u, scale)
    assert out.isneginf().tolist() == [False, True, True, True] and out[0] == 0
    assert {int(sample_categorical(out)) for _ in range(50)} == {0}


def test_at_nought_and_one_one_answer_alone_decides():
    low = -torch.inf
    c, u = torch.tensor([0.0, low, low, 1.0]), torch.tensor([0.5, low, 2.0, low])
    for scale, expected in [(0.0, u), (1.0, c)]:
        assert torch.equal(guide(c, u, scale), expected)


def test_bad_input_is_refused():
    c = torch.zeros(2, 4)
    for channels in (0, 5):
        with pytest.raises(ValueError, match="guided_channels"):
            guide(c, c, 1.5, guided_channels=channels)
    with pytest.raises(ValueError, match="shapes"):
        guide(c, torch.zeros(2, 3), 1.5)
