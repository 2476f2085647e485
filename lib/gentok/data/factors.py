"""Pictures made of a known number of independent factors: Gaussian blobs.

Four numbers make a picture: where its blob lies (two), how large it is, and how bright. Whoever
counts the factors of such a set can be told whether the count is right.

Shapes: n pictures, S pixels a side, F = 4 factors.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gentok.data.imageset import generator

FACTORS = ("x", "y", "size", "brightness")
MARGIN = 0.38  # of the side: a centre keeps this distance from the edge
SIZES = (0.06, 0.2)  # standard deviation of a blob, as a share of the side
BRIGHTNESS = (0.2, 1.0)  # at the centre, where black is 0


@dataclass(frozen=True)
class Factors:
    """Pictures and the numbers that made them.

    Attributes:
        images: (n, 1, S, S), float32 in [-1, 1], -1 is black.
        values: (n, F), float32, each factor uniform in [0, 1] and independent of the others.
        names: of the factors.
        source: in words, what they are.
    """

    images: Tensor = field(repr=False)
    values: Tensor = field(repr=False)
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.images)


def blobs(n: int, size: int = 16, seed: int = 0) -> Factors:
    """Draw blobs with all four factors at random.

    Args:
        n: number of pictures.
        size: S, pixels a side.
        seed: the same seed gives the same pictures.

    Raises:
        ValueError: if ``n`` < 1 or ``size`` < 4.
    """
    if n < 1 or size < 4:
        raise ValueError(f"n must be 1 or more and size 4 or more, got {n} and {size}")
    values = torch.rand(n, len(FACTORS), generator=generator(seed))
    source = f"procedural blobs of {len(FACTORS)} factors, {size} pixels a side"
    return Factors(draw_blobs(values, size), values, FACTORS, source)


def draw_blobs(values: Tensor, size: int = 16) -> Tensor:
    """The pictures of given factors.

    Args:
        values: (n, 4) in [0, 1]: x (left to right), y (top to bottom), size, brightness.
        size: S, pixels a side.

    Returns:
        (n, 1, S, S), float32 in [-1, 1].

    Raises:
        ValueError: if ``values`` has another shape or leaves [0, 1].
    """
    if values.ndim != 2 or values.shape[1] != len(FACTORS):
        raise ValueError(f"values must be (n, {len(FACTORS)}), got {tuple(values.shape)}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("values must lie in [0, 1]")
    x, y = (size * (MARGIN + (1 - 2 * MARGIN) * values[:, axis]) for axis in (0, 1))  # pixels
    width = size * (SIZES[0] + (SIZES[1] - SIZES[0]) * values[:, 2])
    peak = BRIGHTNESS[0] + (BRIGHTNESS[1] - BRIGHTNESS[0]) * values[:, 3]
    place = torch.arange(size) + 0.5  # middles of the pixels
    along_x = (-0.5 * ((place - x[:, None]) / width[:, None]).square()).exp()  # (n, S)
    along_y = (-0.5 * ((place - y[:, None]) / width[:, None]).square()).exp()
    light = peak[:, None, None] * along_y[:, :, None] * along_x[:, None, :]  # (n, S, S) in [0, 1]
    return (2 * light - 1)[:, None]
