"""Captioned pictures: one upright shape of a named colour at a named place of a plain floor.

A caption says all that matters, "a red star at the left", and `gentok.measure.detect` reads all of
it off a picture again. The same scenes can be drawn at any size: progressive training sees them
with more pixels, not with other contents.

Shapes: n pictures, H = W = size pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gentok.data.imageset import generator, to_uint8
from gentok.data.plain_shapes import CHUNK, EASIEST, plain_scenes
from gentok.data.words import split_words
from gentok.data.world import COLOURS, SHAPES, Scenes
from gentok.data.world_images import render_images

PLACES: dict[str, tuple[float, float]] = {  # x right, y down
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "top": (0.0, -1.0),
    "bottom": (0.0, 1.0),
    "centre": (0.0, 0.0),
}
# Of the circle that holds the shape; the picture is 2 wide. As large as places allow: a small
# autoencoder keeps the outlines of 95 % of them apart, of shapes two thirds as large 71 %.
RADIUS = (0.5, 0.56)
OUT = (0.3, 0.42)  # how far from the middle, along the place's axis
ACROSS = 0.12  # at most, across it; in the centre along both axes a third of it
WORDS = ("a", "an", "at", "the", *COLOURS, *SHAPES, *PLACES)


@dataclass(frozen=True)
class PlacedShapes:
    """Pictures and what their captions say.

    Attributes:
        images: (n, 3, H, W) uint8.
        looks: indices into SHAPES, COLOURS and PLACES, (n, 3) int64.
        scenes: what was drawn.
    """

    images: Tensor
    looks: Tensor
    scenes: Scenes

    source = "procedural world: one upright shape at a named place of a plain floor"

    def __len__(self) -> int:
        return len(self.looks)

    @property
    def captions(self) -> list[str]:
        """n sentences."""
        return [placed_caption(*look) for look in self.looks.tolist()]


def placed_caption(shape: int, colour: int, place: int) -> str:
    """A sentence such as "an orange ring at the bottom", from indices of its words."""
    name = list(COLOURS)[colour]
    article = "an" if name[0] in "aeiou" else "a"
    return f"{article} {name} {SHAPES[shape]} at the {list(PLACES)[place]}"


def all_looks(kinds: Sequence[str] = EASIEST) -> Tensor:
    """Every shape of ``kinds``, colour and place once, (S, 3) int64; the place changes fastest."""
    shapes = torch.tensor([SHAPES.index(name) for name in kinds])
    return torch.cartesian_prod(shapes, torch.arange(len(COLOURS)), torch.arange(len(PLACES)))


def read_caption(caption: str) -> tuple[int, int, int]:
    """Indices into SHAPES, COLOURS and PLACES of the words of a caption.

    Raises:
        ValueError: if it does not name one of each.
    """
    found, words = [], split_words(caption)
    for what, known in (("shape", SHAPES), ("colour", tuple(COLOURS)), ("place", tuple(PLACES))):
        named = [word for word in words if word in known]
        if len(named) != 1:
            raise ValueError(f"caption: one {what} of {known} is wanted, got {caption!r}")
        found.append(known.index(named[0]))
    return tuple(found)


def placed_scenes(looks: Tensor, seed: int = 0) -> Scenes:
    """Scenes that obey looks (n, 3); everything else about them is random.

    Raises:
        ValueError: if ``looks`` is not (n, 3), or an index is out of range.
    """
    sizes = torch.tensor([len(SHAPES), len(COLOURS), len(PLACES)])
    if looks.ndim != 2 or looks.shape[1] != 3 or looks.dtype != torch.int64:
        raise ValueError(f"looks must be (n, 3) int64, got {tuple(looks.shape)} {looks.dtype}")
    if bool((looks < 0).any() or (looks >= sizes).any()):
        raise ValueError(f"looks must be indices below {tuple(sizes.tolist())}")
    n, rng = len(looks), generator(seed, 57)
    scenes = plain_scenes(n, seed)
    shape, colour, place = looks.unbind(1)
    named = torch.tensor(list(COLOURS.values()))
    faded = scenes.tint - named[scenes.colour]  # how far each tint is from its colour's name
    towards = torch.tensor(list(PLACES.values()))[place]  # (n, 2)
    out = OUT[0] + (OUT[1] - OUT[0]) * torch.rand(n, 1, generator=rng)
    shake = ACROSS * (2 * torch.rand(n, 2, generator=rng) - 1)
    middle = (towards == 0).all(1, keepdim=True)
    shake = torch.where(middle, shake / 3, shake * (towards == 0))
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * torch.rand(n, 1, generator=rng)
    return replace(
        scenes,
        shape=shape[:, None],
        colour=colour[:, None],
        tint=(named[colour][:, None] + faded).clamp(0, 1),
        position=(towards * out + shake)[:, None],
        radius=radius,
    )


def placed_shapes(
    n: int, size: int = 32, seed: int = 0, kinds: Sequence[str] = EASIEST
) -> PlacedShapes:
    """Draw n captioned pictures of random looks.

    Args:
        n: number of pictures.
        size: side in pixels; the same seed gives the same scenes at every size.
        seed: which scenes.
        kinds: names of the shapes.

    Raises:
        ValueError: if ``n`` < 1, ``size`` < 4 or a name is unknown.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if unknown := sorted(set(kinds) - set(SHAPES)):
        raise ValueError(f"kinds: unknown {unknown}; accepted: {SHAPES}")
    every = all_looks(kinds)
    looks = every[torch.randint(len(every), (n,), generator=generator(seed, 56))]
    scenes = placed_scenes(looks, seed)
    return PlacedShapes(draw_scenes(scenes, size), looks, scenes)


def draw_scenes(scenes: Scenes, size: int) -> Tensor:
    """Pictures of scenes, (n, 3, H, W) uint8, some at a time."""
    parts = [scenes[i : i + CHUNK] for i in range(0, len(scenes), CHUNK)]
    return torch.cat([to_uint8(render_images(part, size)) for part in parts])
