"""Printed digits: the font's own shapes, two colours, disjoint strokes, seeds, and balance."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import get_data_path
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

from gentok.data.coloured_digits import CONTRAST, LUMA
from gentok.data.printed_digits import APART, FACES, _patterns, printed_digits


def outline(face: str, digit: str, side: int = 16, fine: int = 8) -> torch.Tensor:
    """A digit as Matplotlib's own outlines have it, centred: share of ink, (side, side)."""
    font = FontProperties(fname=str(Path(get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"))
    path = TextPath((0, 0), digit, size=1.03 * side, prop=font)
    box = path.get_extents()
    middle = torch.tensor([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    at = (torch.arange(side * fine) + 0.5) / fine - side / 2
    x, y = middle[0] + at, middle[1] - at  # pictures count rows from above
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
    # Even-odd over the closed polygons: inside an odd number of them is ink.
    inside = sum(
        torch.from_numpy(Outline(polygon).contains_points(points.numpy())).int()
        for polygon in path.to_polygons()
    )
    ink = (inside % 2).float().view(side, fine, side, fine)
    return ink.mean((1, 3))


@pytest.mark.parametrize("face", FACES)
def test_strokes_are_those_of_the_font(face):
    strokes, labels = _patterns("train", 16)
    mine = strokes.unflatten(0, (len(FACES), -1))[FACES.index(face)]
    of = labels.unflatten(0, (len(FACES), -1))[FACES.index(face)]
    for digit in range(10):
        drawn, nearest = outline(face, str(digit)), mine[of == digit]
        error = (nearest - drawn).abs().mean((1, 2)).min()
        assert error < 0.03, f"{face}: no {digit} of the set is like the font's own"


def test_two_colours_apart_in_brightness_and_paper_at_the_corners():
    drawn = printed_digits("test", 200, seed=3).floats()
    assert drawn.shape == (200, 3, 16, 16)
    flat = drawn.flatten(2)
    away = flat - flat[..., :1]  # from the first corner's colour
    energy = torch.linalg.svdvals(away.double())
    assert (energy[:, 1] / energy[:, 0]).max() < 0.02, "a picture has more than two colours"
    corners = drawn[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, corners[..., :1].expand_as(corners), rtol=0, atol=0)
    brightness = torch.einsum("nchw,c->nhw", drawn, LUMA).flatten(1)
    assert (brightness.amax(1) - brightness.amin(1)).min() > 0.9 * CONTRAST
    assert (flat.amax(2) - flat.amin(2)).min() > 0.9 * APART, "a colour plane shows no digit"


@given(st.integers(8, 20))
@settings(max_examples=8, deadline=None)
def test_no_digit_is_cut_off_and_all_weigh_the_same(side):
    for split in ("train", "test"):
        strokes, labels = _patterns(split, side)
        assert strokes.min() == 0 and strokes.max() == 1
        assert (torch.bincount(labels) == len(labels) // 10).all()
        border = torch.cat([strokes[:, 0], strokes[:, -1], strokes[..., 0], strokes[..., -1]], 1)
        assert (border.median(1).values == 0).all(), "the paper does not show on the border"


def test_parts_are_disjoint_and_seeds_decide():
    parts = [
        {tuple(pattern.flatten().tolist()) for pattern in _patterns(split, 16)[0]}
        for split in ("train", "test")
    ]
    assert not parts[0] & parts[1], "a stroke pattern of the test part is in the training part"
    first = printed_digits("train", 300)
    assert torch.equal(first.images, printed_digits("train", 300).images)
    assert not torch.equal(first.images, printed_digits("train", 300, seed=1).images)
    assert first.class_names == tuple("0123456789")
    assert "printed digits in 2 faces of DejaVu" in first.source


def test_digits_come_equally_often():
    counts = torch.bincount(printed_digits("train", 10_000).labels, minlength=10)
    assert counts.min() > 880 and counts.max() < 1120  # four standard deviations of 30


def test_bad_input():
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'dev'"):
        printed_digits("dev")
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        printed_digits(count=0)
    with pytest.raises(ValueError, match="side must be 8 or more, got 4"):
        printed_digits(side=4)
