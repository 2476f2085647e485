"""Smooth and shaky paths of a light blob: a world small enough to study preferences in.

Half of the clips slide evenly, half tremble; the caption says only where the blob goes. A model of
these clips makes both kinds, and whoever prefers smooth ones can rank pairs by `shakiness`.

A clip is told whole by the blob's centre in each frame, so these two numbers are its latents,
(n, T, 2, 1, 1): one token a frame, and nothing is left of video but time. `render` draws them.
"""

import torch
from torch import Tensor

from gentok.data.clips import DIRECTIONS
from gentok.data.imageset import generator

FRAMES = 8
SIDE = 16  # pixels of a drawn frame, 8 units wide
SPREAD = 1.1  # units, standard deviation of a blob
TREMBLE = 0.7  # units, standard deviation of a shaky clip's steps off the line


def blob_paths(n: int, seed: int = 0) -> tuple[Tensor, list[str], Tensor]:
    """Draw paths.

    Returns:
        centres (n, T, 2, 1, 1) as (x right, y down) from the middle, in units; captions "a blob
        moving left"; whether a clip is shaky, (n,) bool.
    """
    rng = generator(seed, 2)
    direction = torch.randint(len(DIRECTIONS), (n,), generator=rng)
    heading = torch.tensor(list(DIRECTIONS.values()))[direction]  # (n, 2)
    shaky = torch.rand(n, generator=rng) < 0.5
    along = torch.linspace(-2.0, 2.0, FRAMES)[:, None]  # (T, 1)
    aside = 1.5 * (2 * torch.rand(n, 1, 1, generator=rng) - 1)
    path = along * heading[:, None] + aside * heading.flip(1)[:, None]  # (n, T, 2)
    tremble = TREMBLE * torch.randn(n, FRAMES, 2, generator=rng)
    path = path + shaky[:, None, None] * tremble
    captions = [f"a blob moving {list(DIRECTIONS)[d]}" for d in direction.tolist()]
    return path[..., None, None], captions, shaky


def render(path: Tensor) -> Tensor:
    """Draw paths (n, T, 2, 1, 1) -> video (n, T, 1, 16, 16) in [-1, 1]."""
    grid = (torch.arange(SIDE, device=path.device) + 0.5) * (8 / SIDE) - 4  # units
    x = (grid - path[:, :, 0, :, 0]).square()  # (n, T, 16), columns
    y = (grid - path[:, :, 1, :, 0]).square()
    light = torch.exp(-(y[..., :, None] + x[..., None, :]) / (2 * SPREAD**2))
    return (2 * light - 1)[:, :, None]


def shakiness(path: Tensor) -> Tensor:
    """How far paths (n, T, 2, 1, 1) are from even motion: mean size of second differences, (n,)."""
    return path.diff(n=2, dim=1).norm(dim=2).mean((1, 2, 3))


def obeys(path: Tensor, captions: list[str]) -> Tensor:
    """Whether a path ends at least a unit further where the caption says: (n,) bool.

    A clip that stands still is as smooth as can be, so smoothness alone would be a poor judge.
    """
    names = [caption.split()[-1] for caption in captions]
    heading = torch.tensor([DIRECTIONS[name] for name in names], device=path.device)
    way = (path[:, -1] - path[:, 0])[..., 0, 0]  # (n, 2)
    return (way * heading).sum(-1) > 1
