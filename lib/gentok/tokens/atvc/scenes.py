"""Scenes on a grid, painted by the procedural world and read back by comparing tiles.

Each place of the grid shows one tile: floor, or an object of its kind. The tiles are the world's
own pictures, upright and of plain colours on a grey floor. As there are so few of them, a picture
is read by the nearest tile at each place, and a place that is far from all of them shows nothing
that the world knows.

Shapes: n scenes, G rows and columns of places, C pixels of a tile's side, S = G C.
"""

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from gentok.data.imageset import generator, to_float, to_uint8
from gentok.data.world import COLOURS as RGB
from gentok.data.world import SHAPES as ALL_SHAPES
from gentok.data.world import sample_scenes
from gentok.data.world_images import render_images
from gentok.tokens.atvc.orders import COLOURS, KINDS

GREY = 0.5  # of the floor
RADII = {"disc": 0.88, "square": 1.36, "triangle": 1.0}  # of half a tile: areas that differ
LOWER = 0.16  # of half a tile: by how much a triangle's centre lies below the tile's
UNKNOWN = -1
FAR = 1.5  # in distances of the two tiles most alike: further than this a place is unknown


@cache
def tiles(cell: int) -> Tensor:
    """All kinds as pictures, floor first: (1 + kinds, 3, C, C) uint8.

    Raises:
        ValueError: if ``cell`` < 4.
    """
    n = len(KINDS) + 1
    scenes = sample_scenes(n, 0, max_objects=1)
    shape = torch.tensor([0] + [ALL_SHAPES.index(shape) for _, shape in KINDS])[:, None]
    tint = torch.tensor([RGB["red"]] + [RGB[colour] for colour, _ in KINDS])[:, None]
    radius = torch.tensor([1.0] + [RADII[shape] for _, shape in KINDS])[:, None]
    lower = torch.tensor([0.0] + [LOWER * (shape == "triangle") for _, shape in KINDS])
    scenes = replace(
        scenes,
        shape=shape,
        tint=tint,
        radius=radius,
        present=(torch.arange(n) > 0)[:, None],
        position=torch.stack([torch.zeros(n), lower], -1)[:, None],
        angle=torch.zeros(n, 1),
        texture=torch.zeros(n, dtype=torch.int64),
        floor=torch.full((n, 2, 3), GREY),
    )
    return to_uint8(render_images(scenes, cell))


def paint(scene: Tensor, cell: int = 8) -> Tensor:
    """Kinds (n, G, G) -> pictures (n, 3, S, S) uint8."""
    chosen = tiles(cell)[scene]  # (n, G, G, 3, C, C)
    n, rows, columns = scene.shape
    return chosen.permute(0, 3, 1, 4, 2, 5).reshape(n, 3, rows * cell, columns * cell)


def crowded(n: int, grid: int, seed: int = 0, colours: int = len(COLOURS)) -> Tensor:
    """Scenes whose every place holds any kind of the first colours, or floor, alike: (n, G, G).

    In the scenes of orders three places of four are floor, and a tokenizer that learns for a minute
    would learn little else.
    """
    known = [0] + [k for k, (colour, _) in enumerate(KINDS, 1) if colour in COLOURS[:colours]]
    drawn = torch.randint(len(known), (n, grid, grid), generator=generator(seed, 59))
    return torch.tensor(known)[drawn]


@cache
def closest_pair(cell: int) -> float:
    """Root mean square distance of the two tiles that are most alike, pixels in [-1, 1]."""
    flat = to_float(tiles(cell)).flatten(1)
    return float(torch.pdist(flat).min()) / flat.shape[1] ** 0.5


@torch.no_grad()
def read_kinds(images: Tensor, cell: int = 8) -> Tensor:
    """What stands at each place.

    Args:
        images: (n, 3, S, S) in [-1, 1]; values outside are clipped.
        cell: C.

    Returns:
        kinds, (n, G, G) int64; UNKNOWN where no tile is near.

    Raises:
        ValueError: if ``images`` has another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3 or any(side % cell for side in images.shape[2:]):
        raise ValueError(f"images must be (n, 3, S, S), S a multiple of {cell}, got {images.shape}")
    known = to_float(tiles(cell)).flatten(1)
    places = images.clamp(-1, 1).unfold(2, cell, cell).unfold(3, cell, cell)  # (n, 3, G, G, C, C)
    places = places.permute(0, 2, 3, 1, 4, 5).flatten(3).to(known.device)  # (n, G, G, 3CC)
    distance, kind = torch.cdist(places, known).min(-1)
    near = distance / known.shape[1] ** 0.5 < FAR * closest_pair(cell)
    return torch.where(near, kind, UNKNOWN)
