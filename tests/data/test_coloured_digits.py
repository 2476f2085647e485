"""Coloured digits: two colours a picture, apart in brightness; disjoint strokes; seeds."""

import pytest
import torch

from gentok.data import digits
from gentok.data.coloured_digits import CONTRAST, LUMA, coloured_digits


def strokes_of(images: torch.Tensor) -> torch.Tensor:
    """Where each picture stands between its paper and its ink, (n, 8, 8) in [0, 1]."""
    flat = images.float().flatten(2)
    spread = flat.amax(-1) - flat.amin(-1)  # (n, 3)
    widest = spread.argmax(1)
    plane = flat[torch.arange(len(flat)), widest]
    low, high = plane.amin(-1, keepdim=True), plane.amax(-1, keepdim=True)
    return ((plane - low) / (high - low)).view(-1, 8, 8)


def test_every_picture_is_a_digit_in_two_colours():
    drawn = coloured_digits("test", 60, seed=3)
    assert drawn.images.shape == (60, 3, 8, 8)
    known = digits().floats()[:, 0].add(1).div(2)  # (1797, 8, 8)
    strokes = strokes_of(drawn.images)
    for picture, label in zip(strokes, drawn.labels, strict=True):
        same_class = known[digits().labels == label]
        either = torch.stack([same_class, same_class.amax((1, 2), keepdim=True) - same_class])
        assert (either - picture).abs().amax((-2, -1)).min() < 0.03  # dark on light, or reverse
    corners = drawn.floats()
    brightness = torch.einsum("nchw,c->nhw", corners, LUMA).flatten(1)
    assert (brightness.amax(1) - brightness.amin(1)).min() > CONTRAST - 0.02


def test_parts_are_disjoint_and_seeds_decide():
    train, test = coloured_digits("train", 400), coloured_digits("test", 400)

    def keys(s):
        return {tuple((p * 16).round().int().flatten().tolist()) for p in strokes_of(s.images)}

    light = keys(train) & keys(test)
    assert not light, "a stroke pattern of the test part is in the training part"
    assert torch.equal(train.images, coloured_digits("train", 400).images)
    assert not torch.equal(train.images, coloured_digits("train", 400, seed=1).images)


def test_bad_input():
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'dev'"):
        coloured_digits("dev")
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        coloured_digits(count=0)


def test_larger_pictures_are_the_same_digits_drawn_anew():
    """Scaled back to 8x8 they resemble the scans, far more than another digit does."""
    small, large = coloured_digits("test", 200), coloured_digits("test", 200, side=16)
    assert large.images.shape == (200, 3, 16, 16)
    assert torch.equal(small.labels, large.labels)

    def strokes(images):
        grey = torch.einsum("nchw,c->nhw", images.float(), LUMA)  # in which inks differ
        grey = torch.nn.functional.adaptive_avg_pool2d(grey, 8)
        grey = grey.flatten(1) - grey.flatten(1).mean(1, keepdim=True)
        return grey / grey.norm(dim=1, keepdim=True)

    # Ink may be darker or lighter than paper: the sign of a correlation says nothing.
    alike = (strokes(small.images) @ strokes(large.images).T).abs()
    assert alike.diagonal().median() > 0.65
    assert alike.diagonal().median() > alike.median() + 0.2
    with pytest.raises(ValueError, match="side must be 8 or more, got 4"):
        coloured_digits(side=4)
