"""Upright shapes on plainly shaded floors: the procedural world at its easiest.

A network that trains for minutes should spend its time on shapes and colours, so the floor's
texture is plain and no object is turned. Everything else stays as the world draws it.

Shapes: n scenes, K places for objects, H = W = size pixels.
"""

from dataclasses import replace

import torch

from gentok.data.imageset import ImageSet, to_uint8
from gentok.data.world import SHAPES, Scenes, sample_scenes
from gentok.data.world_images import render_images

CHUNK = 512  # scenes rendered at a time, so that memory does not grow with n


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
    parts = [scenes[i : i + CHUNK] for i in range(0, n, CHUNK)]
    images = torch.cat([to_uint8(render_images(part, size)) for part in parts])
    source = "procedural world: upright shapes on plain floors"
    return ImageSet(images, scenes.shape[:, 0].clone(), SHAPES, source)
