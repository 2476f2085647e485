"""Are these pictures coloured, printed digits? Two judges read them, and both must be sure.

Samples of a model that was asked for no class have no label to be held against. Here a sample
counts as legible if two judges of different kinds, nearest neighbours and a forest of trees, name
the same digit and each gives it a clear majority of its votes. Both were trained on strokes of the
training part of `gentok.data.printed_digits` alone, and both see the strokes without their
colours: ink is what differs from the border's colour, along the one direction in which colours
differ most. A picture of three colours loses what lies off that direction.

Shapes: n pictures, H W pixels.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gentok.data.imageset import generator
from gentok.data.printed_digits import printed_digits

SEED, TRAINED_ON = 4242, 16_384  # pictures that the judges learn from
NEIGHBOURS, TREES = 10, 100
# Least share of a judge's votes for the digit it names. Of printed digits that neither judge has
# seen all pass, of the same with shuffled rows 1 %, of letters in the same faces 10 %.
SURE = {"neighbours": 0.8, "forest": 0.6}
LEAST_INK = 0.05  # of a range of 2: below this a picture is a blank sheet, and noise is no ink


def strokes(images: Tensor) -> Tensor:
    """How much ink lies where.

    Args:
        images: (n, 3, H, W) in [-1, 1], an ink on a paper that shows on most of the border.

    Returns:
        (n, H, W) in [0, 1].

    Raises:
        ValueError: if the images are not (n, 3, H, W).
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (n, 3, H, W), got {tuple(images.shape)}")
    x = images.double()
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[..., 0], x[..., -1]], dim=-1)
    paper = border.median(dim=-1).values  # (n, 3)
    away = x.flatten(2) - paper[..., None]  # (n, 3, HW): every pixel's colour, from the paper's
    axis = torch.linalg.eigh(away @ away.mT).eigenvectors[..., -1]  # (n, 3)
    along = (axis[:, None] @ away)[:, 0]  # (n, HW)
    along = along * along.sum(1, keepdim=True).sign()  # a direction has no sign; ink is positive
    full = along.quantile(0.95, dim=1, keepdim=True).clamp_min(LEAST_INK)
    return (along / full).clamp(0, 1).float().view(len(images), *images.shape[2:])


def read_digits(images: Tensor) -> Tensor:
    """The digit that both judges are sure to see, or -1: (n, 3, H, W) in [-1, 1] -> (n,) int64.

    Raises:
        ValueError: if the images are not square, (n, 3, H, H) with H of 8 or more.
    """
    ink = strokes(images)
    if ink.shape[1] != ink.shape[2]:
        raise ValueError(f"images must be square, got {tuple(images.shape)}")
    votes = {
        name: torch.from_numpy(judge.predict_proba(ink.flatten(1).numpy()))  # (n, 10)
        for name, judge in _judges(ink.shape[1]).items()
    }
    named = [share.argmax(1) for share in votes.values()]
    sure = [share.amax(1) >= SURE[name] for name, share in votes.items()]
    return torch.where((named[0] == named[1]) & sure[0] & sure[1], named[0], -1)


def legible(images: Tensor) -> float:
    """Share of pictures (n, 3, H, W), in [-1, 1], in which both judges see the same digit."""
    return float((read_digits(images) >= 0).float().mean())


def within_rows(images: Tensor, seed: int = 0) -> Tensor:
    """A control that must fail: every row keeps its pixels, in an order of its own; same shape."""
    order = torch.rand(len(images), *images.shape[2:], generator=generator(seed)).argsort(-1)
    return images.gather(-1, order[:, None].expand_as(images))


@lru_cache(maxsize=4)
def _judges(side: int) -> dict[str, Any]:
    """The two judges for pictures of this size, trained in two seconds when first asked for."""
    from sklearn.ensemble import ExtraTreesClassifier  # slow to import
    from sklearn.neighbors import KNeighborsClassifier

    known = printed_digits("train", TRAINED_ON, SEED, side)
    ink, labels = strokes(known.floats()).flatten(1).numpy(), known.labels.numpy()
    judges = {
        "neighbours": KNeighborsClassifier(NEIGHBOURS),
        "forest": ExtraTreesClassifier(TREES, random_state=SEED),
    }
    return {name: judge.fit(ink, labels) for name, judge in judges.items()}
