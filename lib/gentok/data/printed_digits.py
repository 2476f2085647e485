"""Printed digits in two colours: as `gentok.data.coloured_digits`, and easier.

Two bold faces of DejaVu, which come with Matplotlib, vary little in size and place, and ink differs
from paper in every colour plane. A person's hand varies without end, and a small network needs far
longer to learn where its strokes end.

Shapes: F faces, S sizes, P places, M = F 10 S P stroke patterns, H = W = side pixels.
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from gentok.data.coloured_digits import check_request, two_colours
from gentok.data.imageset import ImageSet, generator, to_uint8

FACES = ("DejaVuSans-Bold", "DejaVuSerif-Bold")
FINE = 4  # glyphs are drawn this many times larger, and then averaged down
SIZES = torch.linspace(0.97, 1.07, 7).tolist()  # of the em, over the side of the picture
REACH = 2  # furthest move, in fine pixels: half a pixel each way
APART = 0.5  # least difference between ink and paper in each plane, of a range of 2


def printed_digits(
    split: str = "train", count: int = 4096, seed: int = 0, side: int = 16
) -> ImageSet:
    """Digits of two faces, each in a random ink on a random paper, (count, 3, side, side).

    Of all combinations of a size and a place, "train" has four fifths and "test" the others, so no
    stroke pattern is in both; the same one may come again in other colours. A border shows paper.

    Args:
        split: "train" or "test".
        count: number of pictures.
        seed: picks patterns and colours.
        side: pixels along an edge, 8 or more.

    Raises:
        ValueError: if ``split`` is unknown, ``count`` is below 1, or ``side`` below 8.
    """
    check_request(split, count, side)
    strokes, labels = _patterns(split, side)
    rng = generator(seed, split == "test")
    index = torch.randint(len(labels), (count,), generator=rng)
    paper, ink = _clear_colours(count, rng)
    images = torch.lerp(paper[..., None, None], ink[..., None, None], strokes[index, None])
    return ImageSet(
        to_uint8(images),
        labels[index],
        tuple(str(digit) for digit in range(10)),
        f"{split} part of printed digits in {len(FACES)} faces of DejaVu, in random colours",
    )


@lru_cache(maxsize=4)
def _patterns(split: str, side: int) -> tuple[Tensor, Tensor]:
    """All strokes of a part: (M, side, side) in [0, 1], 0 paper to 1 ink; and labels (M,)."""
    glyphs = _glyphs(side)  # (F, 10, S, FINE side, FINE side)
    steps = range(-REACH, REACH + 1)
    moved = [glyphs.roll((down, right), (-2, -1)) for down in steps for right in steps]
    fine = torch.stack(moved, 3).flatten(2, 3)  # (F, 10, S P, FINE side, FINE side)
    order = torch.randperm(fine.shape[2], generator=generator(0))
    cut = round(0.8 * len(order))
    fine = fine[:, :, order[:cut] if split == "train" else order[cut:]]
    strokes = fine.unflatten(-1, (side, FINE)).unflatten(-3, (side, FINE)).mean((-1, -3))
    labels = torch.arange(10)[None, :, None].expand(strokes.shape[:3])
    return strokes.flatten(0, 2), labels.flatten()


def _glyphs(side: int) -> Tensor:
    """Every digit of every face and size, centred by its ink: (F, 10, S, FINE side, FINE side)."""
    from matplotlib import get_data_path  # slow to import
    from PIL import Image, ImageDraw, ImageFont

    folder, whole = Path(get_data_path()) / "fonts" / "ttf", FINE * side
    drawn = []
    for face in FACES:
        fonts = [ImageFont.truetype(folder / f"{face}.ttf", round(size * whole)) for size in SIZES]
        for digit in map(str, range(10)):
            for font in fonts:
                left, top, right, bottom = font.getbbox(digit)
                corner = (whole - left - right) // 2, (whole - top - bottom) // 2
                sheet = Image.new("L", (whole, whole))
                ImageDraw.Draw(sheet).text(corner, digit, fill=255, font=font)
                drawn.append(torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8))
    pixels = torch.stack(drawn).float() / 255
    return pixels.view(len(FACES), 10, len(SIZES), whole, whole)


def _clear_colours(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs as `two_colours` draws them, (count, 3) each, those that share a plane drawn again."""
    paper, ink = two_colours(count, rng)
    while (alike := ((paper - ink).abs() < APART).any(1)).any():
        paper[alike], ink[alike] = two_colours(int(alike.sum()), rng)
    return paper, ink
