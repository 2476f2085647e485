"""Handwritten digits in two colours: pictures with strong ties between the colour planes.

Once one plane is known, the others hold little news: which colour is the ink, which the paper. That
makes them a good test for models that draw one plane after another.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.data.embedded import digits
from gentok.data.imageset import ImageSet, generator, to_uint8

CONTRAST = 0.7  # least difference in brightness between ink and paper, of a range of 2
LUMA = torch.tensor([0.299, 0.587, 0.114])


def coloured_digits(
    split: str = "train", count: int = 4096, seed: int = 0, side: int = 8
) -> ImageSet:
    """Digits of scikit-learn, each in a random ink on a random paper, (count, 3, side, side).

    The strokes of "train" (four fifths of the 1,797 digits) and "test" are disjoint; the same digit
    may come again in other colours. They are scans of 8x8 pixels. Larger sides are drawn anew from
    them with smooth edges, each a little turned, scaled and moved.

    Args:
        split: "train" or "test".
        count: number of pictures.
        seed: picks digits and colours.
        side: pixels along an edge, 8 or more.

    Raises:
        ValueError: if ``split`` is unknown, ``count`` is below 1, or ``side`` below 8.
    """
    check_request(split, count, side)
    parts = dict(zip(("train", "test"), digits().split(0.8, seed=0), strict=True))
    source = parts[split]
    rng = generator(seed, split == "test")
    index = torch.randint(len(source), (count,), generator=rng)
    strokes = source.floats()[index, :1].add(1).div(2)  # (count, 1, 8, 8), 0 paper to 1 ink
    if side > 8:
        strokes = _redrawn(strokes, side, rng)
    paper, ink = two_colours(count, rng)
    images = torch.lerp(paper[..., None, None], ink[..., None, None], strokes)
    return ImageSet(
        to_uint8(images),
        source.labels[index],
        source.class_names,
        f"{split} part of the handwritten digits of scikit-learn, in random colours",
    )


def check_request(split: str, count: int, side: int) -> None:
    """Refuse what the sets of digits cannot draw.

    Raises:
        ValueError: if ``split`` is unknown, ``count`` is below 1, or ``side`` below 8.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    if side < 8:
        raise ValueError(f"side must be 8 or more, got {side}")


def _redrawn(strokes: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """Strokes of 8x8 pixels at another size, no two alike: (count, 1, side, side) in [0, 1].

    Turned by up to 8 degrees, scaled by up to 3 %, moved by up to 3 % of the side.
    """
    count = len(strokes)
    turn, scale, *move = (torch.rand(4, count, generator=rng) * 2 - 1) * torch.tensor(
        [math.radians(8), 0.03, 0.06, 0.06]
    )[:, None]
    cos, sin = turn.cos() / (1 + scale), turn.sin() / (1 + scale)
    rows = torch.stack([cos, -sin, move[0]], -1), torch.stack([sin, cos, move[1]], -1)
    # Twice the size with a margin, so that nothing is cut off and edges can be made smooth.
    smooth = F.interpolate(F.pad(strokes, (1, 1, 1, 1)), scale_factor=4, mode="bicubic")
    grid = F.affine_grid(torch.stack(rows, 1), [count, 1, 2 * side, 2 * side], align_corners=False)
    fine = F.grid_sample(smooth, grid, align_corners=False)
    return F.avg_pool2d(torch.sigmoid(12 * (fine - 0.45)), 2)  # a pen's edge, not a scan's blur


def two_colours(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs of colours in [-1, 1], (count, 3) each, apart in brightness; drawn until they are."""
    pairs = torch.rand(2, count, 3, generator=rng) * 2 - 1
    while True:
        brightness = pairs @ LUMA  # (2, count)
        dull = (brightness[0] - brightness[1]).abs() < CONTRAST
        if not dull.any():
            return pairs[0], pairs[1]
        pairs[:, dull] = torch.rand(2, int(dull.sum()), 3, generator=rng) * 2 - 1
