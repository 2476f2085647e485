"""Clips with captions for small video models: one shape that slides straight over a dark floor.

Drawn by the book's procedural world. The shape starts on one side and never reaches the other
edge, so that the caption's direction holds for the whole clip.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gentok.data.clips import DARK, DIRECTIONS, Clips, caption, render_clips
from gentok.data.imageset import generator
from gentok.data.world import SHAPES, Scenes, sample_scenes


def moving_scenes(
    n: int,
    seed: int = 0,
    frames: int = 17,
    shaded: bool = False,
    shapes: Sequence[str] = SHAPES,
) -> tuple[Scenes, Tensor]:
    """n scenes of one upright shape in straight motion, and the directions, (n,)."""
    scenes, rng = sample_scenes(n, seed, max_objects=1), generator(seed, 1)
    kinds = torch.tensor([SHAPES.index(name) for name in shapes])
    direction = torch.randint(len(DIRECTIONS), (n,), generator=rng)
    heading = torch.tensor(list(DIRECTIONS.values()))[direction]  # (n, 2)
    radius = 0.46 + 0.08 * torch.rand(n, 1, generator=rng)
    speed = (0.75 + 0.15 * torch.rand(n, 1, generator=rng)) / (frames - 1)  # 2 is the width
    aside = 0.35 * (2 * torch.rand(n, 1, generator=rng) - 1)  # across the motion
    start = -0.5 * speed * (frames - 1) * heading + aside * heading.flip(1)
    still = torch.zeros_like(scenes.spin)
    scenes = replace(
        scenes,
        shape=kinds[scenes.shape % len(kinds)],
        texture=torch.zeros_like(scenes.texture),
        floor=scenes.floor if shaded else torch.tensor(DARK).expand_as(scenes.floor),
        angle=still,
        spin=still,
        radius=radius,
        position=start[:, None],
        velocity=(speed * heading)[:, None],
    )
    return scenes, direction


def moving_shapes(
    n: int,
    seed: int = 0,
    size: int = 32,
    frames: int = 17,
    shaded: bool = False,
    shapes: Sequence[str] = SHAPES,
) -> Clips:
    """Draw n clips with captions.

    Args:
        n: number of clips; ``seed``: the same seed gives the same clips.
        size: side in pixels; ``frames``: T, 2 or more.
        shaded: floors of random colours with a gradient, instead of one dark floor for all.
        shapes: names of SHAPES to draw from; equally often if their number divides that of all.

    Raises:
        ValueError: if ``frames`` is below 2, or a name is not of SHAPES.
    """
    if frames < 2:
        raise ValueError(f"frames must be at least 2, got {frames}")
    if not shapes or (unknown := [name for name in shapes if name not in SHAPES]):
        raise ValueError(f"shapes must be names of {SHAPES}, got {unknown if shapes else shapes}")
    scenes, direction = moving_scenes(n, seed, frames, shaded, shapes)
    looks = scenes.colour[:, 0].tolist(), scenes.shape[:, 0].tolist(), direction.tolist()
    captions = [caption(*look) for look in zip(*looks, strict=True)]
    speed = scenes.velocity[:, 0].norm(dim=1) * size / 2  # (n,) pixels a frame
    return Clips(render_clips(scenes, frames, size), captions, direction, speed, scenes)
