"""Handwritten digits in two colours: 8x8 pictures with strong ties between the colour planes.

Once one plane is known, the others hold little news: which colour is the ink, which the paper. That
makes them a good test for models that draw one plane after another.
"""

import torch
from torch import Tensor

from gentok.data.embedded import digits
from gentok.data.imageset import ImageSet, generator, to_uint8

CONTRAST = 0.7  # least difference in brightness between ink and paper, of a range of 2
LUMA = torch.tensor([0.299, 0.587, 0.114])


def coloured_digits(split: str = "train", count: int = 4096, seed: int = 0) -> ImageSet:
    """Digits of scikit-learn, each in a random ink on a random paper, (count, 3, 8, 8).

    The strokes of "train" (four fifths of the 1,797 digits) and "test" are disjoint; the same digit
    may come again in other colours.

    Args:
        split: "train" or "test".
        count: number of pictures.
        seed: picks digits and colours.

    Raises:
        ValueError: if ``split`` is unknown or ``count`` is below 1.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    parts = dict(zip(("train", "test"), digits().split(0.8, seed=0), strict=True))
    source = parts[split]
    rng = generator(seed, split == "test")
    index = torch.randint(len(source), (count,), generator=rng)
    strokes = source.floats()[index, :1].add(1).div(2)  # (count, 1, 8, 8), 0 paper to 1 ink
    paper, ink = _two_colours(count, rng)
    images = torch.lerp(paper[..., None, None], ink[..., None, None], strokes)
    return ImageSet(
        to_uint8(images),
        source.labels[index],
        source.class_names,
        f"{split} part of the handwritten digits of scikit-learn, in random colours",
    )


def _two_colours(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs of colours in [-1, 1], (count, 3) each, apart in brightness; drawn until they are."""
    pairs = torch.rand(2, count, 3, generator=rng) * 2 - 1
    while True:
        brightness = pairs @ LUMA  # (2, count)
        dull = (brightness[0] - brightness[1]).abs() < CONTRAST
        if not dull.any():
            return pairs[0], pairs[1]
        pairs[:, dull] = torch.rand(2, int(dull.sum()), 3, generator=rng) * 2 - 1
