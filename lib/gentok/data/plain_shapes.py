"""Upright shapes on plainly shaded floors: the procedural world at its easiest.

A network that trains for minutes should spend its time on shapes and colours, so the floor's
texture is plain and no object is turned. Everything else stays as the world draws it.

Shapes: n scenes, K places for objects, H = W = size pixels.
"""

from dataclasses import replace

import torch
from torch import Tensor

from gentok.data.imageset import ImageSet, generator, to_uint8
from gentok.data.world import SHAPES, Scenes, sample_scenes
from gentok.data.world_images import render_images

CHUNK = 512  # scenes rendered at a time, so that memory does not grow with n
EASIEST = ("disc", "ring", "cross", "star", "heart")  # outlines that no two share
CENTRED_RADIUS = 0.65  # of half the picture
GREYS = (0.4, 0.6)  # the two ends of its floor's shading
RADII = (6.0, 13.0)  # pixels: smallest and largest of scattered shapes


def plain_scenes(n: int, seed: int = 0, max_objects: int = 1) -> Scenes:
    """Draw scenes of upright objects on plain floors.

    Args:
        n: number of scenes.
        seed: the same seed gives the same scenes.
        max_objects: K, 1 to 9.

    Returns:
        The scenes of :func:`gentok.data.sample_scenes` with ``texture`` and ``angle`` set to zero.

    Raises:
        ValueError: if ``n`` < 1 or ``max_objects`` is not in 1..9.
    """
    scenes = sample_scenes(n, seed, max_objects)
    return replace(
        scenes,
        texture=torch.zeros_like(scenes.texture),
        angle=torch.zeros_like(scenes.angle),
    )


def plain_shapes(n: int, size: int = 32, seed: int = 0, max_objects: int = 1) -> ImageSet:
    """Draw :func:`plain_scenes`; an image's label is the shape of its first object.

    Args:
        n: number of images.
        size: side in pixels.
        seed: the same seed gives the same images.
        max_objects: K, 1 to 9.

    Returns:
        An image set of (n, 3, H, W) bytes with labels (n,), indices into SHAPES.

    Raises:
        ValueError: if ``n`` < 1, ``size`` < 4 or ``max_objects`` is not in 1..9.
    """
    scenes = plain_scenes(n, seed, max_objects)
    source = "procedural world: upright shapes on plain floors"
    return ImageSet(_drawn(scenes, size), scenes.shape[:, 0].clone(), SHAPES, source)


def centred_shapes(n: int, size: int = 32, seed: int = 0) -> ImageSet:
    """Draw one of the five `EASIEST` shapes in the middle, all of one size, on a grey floor.

    What is left to learn is the outline of a class and its colour: a network of a quarter of a
    million parameters draws them after a minute of one core.

    Args: as :func:`plain_shapes`.

    Returns:
        An image set of (n, 3, H, W) bytes with labels (n,), indices into `EASIEST`.

    Raises:
        ValueError: if ``n`` < 1 or ``size`` < 4.
    """
    scenes = plain_scenes(n, seed)
    kind = scenes.shape % len(EASIEST)  # two of the ten shapes' numbers for each
    scenes = replace(
        scenes,
        shape=torch.tensor([SHAPES.index(name) for name in EASIEST])[kind],
        position=torch.zeros_like(scenes.position),
        radius=torch.full_like(scenes.radius, CENTRED_RADIUS),
        floor=torch.tensor(GREYS).view(1, 2, 1).expand_as(scenes.floor),
    )
    source = "procedural world: five shapes of one size in the middle of grey floors"
    return ImageSet(_drawn(scenes, size), kind[:, 0].clone(), EASIEST, source)


def scattered_shapes(
    n: int, size: int = 32, seed: int = 0, kinds: tuple[str, ...] = SHAPES
) -> ImageSet:
    """Draw one upright shape anywhere on a plain floor, its radius between `RADII` *pixels*.

    A larger picture shows more floor, not a larger shape: what a network learned about shapes at
    one size of picture holds at every other, and only the places are new.

    Args:
        n: number of images.
        size: side in pixels, at least 28.
        seed: the same seed gives the same images.
        kinds: names of the shapes, of SHAPES.

    Returns:
        An image set of (n, 3, H, W) bytes with labels (n,), indices into ``kinds``.

    Raises:
        ValueError: if ``n`` < 1, ``size`` < 28 or a name is unknown.
    """
    if size < 28:
        raise ValueError(f"size must be at least 28, room for the largest shape, got {size}")
    if unknown := sorted(set(kinds) - set(SHAPES)):
        raise ValueError(f"kinds: unknown {unknown}; accepted: {SHAPES}")
    scenes, rng = plain_scenes(n, seed), generator(seed, size, 31)
    label = torch.randint(len(kinds), (n, 1), generator=rng)
    low, high = RADII
    radius = (low + (high - low) * torch.rand(n, 1, generator=rng)) / (size / 2)  # scene units
    room = (1 - radius)[..., None]
    scenes = replace(
        scenes,
        shape=torch.tensor([SHAPES.index(name) for name in kinds])[label],
        radius=radius,
        position=(2 * torch.rand(n, 1, 2, generator=rng) - 1) * room,
    )
    source = f"procedural world: one of {len(kinds)} upright shapes anywhere on plain floors"
    return ImageSet(_drawn(scenes, size), label[:, 0], tuple(kinds), source)


def _drawn(scenes: Scenes, size: int) -> Tensor:
    """Pictures of scenes, (n, 3, H, W) bytes."""
    parts = [scenes[i : i + CHUNK] for i in range(0, len(scenes), CHUNK)]
    return torch.cat([to_uint8(render_images(part, size)) for part in parts])
