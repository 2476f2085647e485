"""Smooth and shaky clips of a light blob: a world small enough to study preferences in.

Half of the clips slide evenly, half tremble; the caption says only where the blob goes. A model of
these clips makes both kinds, and whoever prefers smooth ones can rank pairs by `shakiness`.

Clips are (n, T, 1, 8, 8) in [-1, 1]; their "latents" are the same numbers in blocks of 4x4 pixels,
(n, T, 16, 2, 2): no tokenizer stands between the transformer and the picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.data.imageset import generator
from gentok.video.clips import DIRECTIONS

SIDE, BLOCK, FRAMES = 8, 4, 6  # pixels, pixels, frames
SPREAD = 1.1  # pixels, standard deviation of a blob
TREMBLE = 1.0  # pixels, standard deviation of a shaky clip's steps off the line


def blob_clips(n: int, seed: int = 0) -> tuple[Tensor, list[str], Tensor]:
    """Draw clips.

    Returns:
        video (n, T, 1, 8, 8), float32 in [-1, 1]; captions "a blob moving left"; whether a clip is
        shaky, (n,) bool.
    """
    rng = generator(seed, 2)
    direction = torch.randint(len(DIRECTIONS), (n,), generator=rng)
    heading = torch.tensor(list(DIRECTIONS.values()))[direction]  # (n, 2) as (x, y)
    shaky = torch.rand(n, generator=rng) < 0.5
    along = torch.linspace(-2.0, 2.0, FRAMES)[:, None]  # pixels from the middle
    aside = 1.5 * (2 * torch.rand(n, 1, 1, generator=rng) - 1)
    path = along * heading[:, None] + aside * heading.flip(1)[:, None]  # (n, T, 2)
    tremble = TREMBLE * torch.randn(n, FRAMES, 2, generator=rng)
    path = (path + shaky[:, None, None] * tremble).clamp(-3, 3) + (SIDE - 1) / 2
    grid = torch.arange(SIDE, dtype=torch.float32)
    x = (grid - path[..., 0, None]).square()  # (n, T, 8), columns
    y = (grid - path[..., 1, None]).square()
    light = torch.exp(-(y[..., :, None] + x[..., None, :]) / (2 * SPREAD**2))
    captions = [f"a blob moving {list(DIRECTIONS)[d]}" for d in direction.tolist()]
    return (2 * light - 1)[:, :, None], captions, shaky


def to_latent(video: Tensor) -> Tensor:
    """(n, T, 1, 8, 8) -> (n, T, 16, 2, 2)."""
    return F.pixel_unshuffle(video, BLOCK)


def to_video(latent: Tensor) -> Tensor:
    """The inverse of :func:`to_latent`."""
    return F.pixel_shuffle(latent, BLOCK)


def centre_of_light(video: Tensor) -> Tensor:
    """Where the light is, frame by frame.

    Args:
        video: (n, T, 1, 8, 8), clipped to [-1, 1].

    Returns:
        (n, T, 2) as (x, y), in pixels.
    """
    # Squares, so that the faint noise of a generated background weighs nothing.
    light = (video[:, :, 0].clamp(-1, 1) + 1).square()  # (n, T, 8, 8)
    grid = torch.arange(SIDE, dtype=video.dtype, device=video.device)
    total = light.sum((2, 3)).clamp_min(1e-6)
    centre = torch.stack([(light.sum(2) * grid).sum(-1), (light.sum(3) * grid).sum(-1)], -1)
    return centre / total[..., None]


def shakiness(video: Tensor) -> Tensor:
    """How far the light strays from even motion: (n,), mean length of its second differences."""
    return centre_of_light(video).diff(n=2, dim=1).norm(dim=-1).mean(1)


def obeys(video: Tensor, captions: list[str]) -> Tensor:
    """Whether the light moves at least a pixel where the caption says: (n,) bool.

    A clip that stands still is as smooth as can be, so smoothness alone would be a poor judge.
    """
    names = [caption.split()[-1] for caption in captions]
    heading = torch.tensor([DIRECTIONS[name] for name in names], device=video.device)
    centre = centre_of_light(video)
    return ((centre[:, -1] - centre[:, 0]) * heading).sum(-1) > 1
