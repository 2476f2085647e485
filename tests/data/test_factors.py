"""Blobs: the factors that made a picture can be measured on it."""

import pytest
import torch

from gentok.data.factors import BRIGHTNESS, FACTORS, MARGIN, SIZES, blobs, draw_blobs


def test_pictures_show_their_factors():
    found = blobs(200, size=32, seed=3)
    light = (found.images[:, 0] + 1) / 2
    place = (torch.arange(32) + 0.5) / 32
    mass = light.sum((1, 2))
    x = (light.sum(1) * place).sum(1) / mass
    y = (light.sum(2) * place).sum(1) / mass
    span = 1 - 2 * MARGIN
    # Tails that the edge cuts off pull a centre of mass towards the middle, by a few per cent.
    torch.testing.assert_close(x, MARGIN + span * found.values[:, 0], atol=0.04, rtol=0)
    torch.testing.assert_close(y, MARGIN + span * found.values[:, 1], atol=0.04, rtol=0)
    peak = BRIGHTNESS[0] + (BRIGHTNESS[1] - BRIGHTNESS[0]) * found.values[:, 3]
    torch.testing.assert_close(light.amax((1, 2)), peak, atol=0.05, rtol=0)
    width = SIZES[0] + (SIZES[1] - SIZES[0]) * found.values[:, 2]
    integral = 2 * torch.pi * (32 * width).square() * peak  # of a whole Gaussian
    inside = (found.values[:, :2] - 0.5).abs().amax(1) < 0.2
    assert ((mass / integral)[inside] - 1).abs().max() < 0.1


def test_x_is_left_to_right_and_y_top_to_bottom():
    right = draw_blobs(torch.tensor([[1.0, 0.5, 0.0, 1.0]]))[0, 0]
    assert right.amax(0).argmax() == 9 and 7 <= right.amax(1).argmax() <= 8
    low = draw_blobs(torch.tensor([[0.5, 1.0, 0.0, 1.0]]))[0, 0]
    assert low.amax(1).argmax() == 9


def test_a_seed_gives_the_same_and_factors_are_independent():
    first, again, other = blobs(50, seed=1), blobs(50, seed=1), blobs(50, seed=2)
    assert torch.equal(first.images, again.images) and torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)
    many = blobs(4000, size=4, seed=0).values
    correlations = torch.corrcoef(many.T) - torch.eye(len(FACTORS))
    assert correlations.abs().max() < 0.06
    assert first.images.shape == (50, 1, 16, 16) and len(first) == 50
    assert first.images.min() >= -1 and first.images.max() <= 1


def test_bad_input():
    for arguments in ((0, 16), (3, 3)):
        with pytest.raises(ValueError, match="n must be 1 or more"):
            blobs(*arguments)
    with pytest.raises(ValueError, match=r"values must be \(n, 4\)"):
        draw_blobs(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        draw_blobs(torch.full((1, 4), torch.nan))
