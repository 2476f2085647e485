"""The two judges of coloured digits: they know real ones, and nothing else passes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from gentok.data.printed_digits import FACES, printed_digits
from gentok.measure.digits import legible, read_digits, strokes, within_rows


@pytest.fixture(scope="module")
def real():
    """Held-out digits at the size of the book's trained model."""
    return printed_digits("test", 300, seed=5, side=16)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_strokes_are_what_was_mixed_whatever_the_colours(seed):
    rng = torch.Generator().manual_seed(seed)
    mask = torch.zeros(3, 9, 9)
    mask[:, 2:7, 3:6] = 1
    mask[:, 2, 3:6] = 0.5
    paper, ink = torch.rand(2, 3, 3, generator=rng) * 2 - 1
    ink = paper + (ink - paper).sign() * (ink - paper).abs().clamp_min(0.2)
    images = torch.lerp(paper[..., None, None], ink[..., None, None], mask[:, None])
    torch.testing.assert_close(strokes(images), mask, rtol=0, atol=1e-4)


def test_a_blank_sheet_has_no_ink_and_is_no_digit():
    blank = torch.full((2, 3, 16, 16), 0.3)
    assert not strokes(blank).any()
    assert read_digits(blank).tolist() == [-1, -1]


def test_real_digits_are_read_and_controls_are_not(real):
    images = real.floats()
    read = read_digits(images)
    seen = read >= 0
    assert float(seen.float().mean()) == legible(images) >= 0.97
    assert float((read == real.labels)[seen].float().mean()) > 0.98
    assert legible(within_rows(images)) < 0.02
    noise = torch.rand(100, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert legible(noise) == 0


def test_letters_of_the_same_faces_are_no_digits():
    """As large, as bold and as whole as digits: only their shapes tell them apart."""
    sheets = []
    for face in FACES:
        file = Path(get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
        for size in range(60, 70):
            for letter in "ACEFHKMUWX":
                sheet, font = Image.new("L", (64, 64)), ImageFont.truetype(file, size)
                left, top, right, bottom = font.getbbox(letter)
                corner = (64 - left - right) // 2, (64 - top - bottom) // 2
                ImageDraw.Draw(sheet).text(corner, letter, fill=255, font=font)
                sheets.append(np.asarray(sheet.resize((16, 16), Image.Resampling.BOX)))
    drawn = torch.from_numpy(np.stack(sheets)).float().div(127.5).sub(1)  # (n, 16, 16)
    assert legible(drawn[:, None].expand(-1, 3, -1, -1)) < 0.15  # A as a 4, U as a 0


def test_halves_of_two_digits_pass_more_rarely_than_digits(real):
    images = real.floats()
    mixed = torch.cat([images[:, :, :8], images.roll(1, 0)[:, :, 8:]], dim=2)
    assert legible(mixed) < legible(images) - 0.7


def test_a_third_colour_that_hides_the_shape_is_seen(real):
    """The lower half of the paper turns another colour: the ink is no longer what differs most."""
    images = real.floats().clone()
    images[:, :, 8:] = -images[:, :, 8:]
    assert legible(images) < legible(real.floats()) - 0.3


def test_the_control_moves_pixels_within_their_row_only(real):
    images = real.floats()[:4]
    moved = within_rows(images, seed=3)
    assert not torch.equal(moved, images) and torch.equal(moved, within_rows(images, seed=3))
    key = images[:, 0] + 10 * images[:, 1] + 100 * images[:, 2]  # a pixel's three colours as one
    moved_key = moved[:, 0] + 10 * moved[:, 1] + 100 * moved[:, 2]
    torch.testing.assert_close(moved_key.sort(-1).values, key.sort(-1).values)


def test_bad_input():
    with pytest.raises(ValueError, match=r"images must be \(n, 3, H, W\), got \(2, 1, 16, 16\)"):
        strokes(torch.zeros(2, 1, 16, 16))
    with pytest.raises(ValueError, match="images must be square"):
        read_digits(torch.zeros(2, 3, 16, 12))
