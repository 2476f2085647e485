"""Clips with captions: one shape of the procedural world that slides in a named direction.

The path is straight and stays in the picture, so the caption holds for the whole clip; with
``bounce`` it may be longer, and turns back at the edges. Where a path lies does not depend on its
direction: that can be read from the order of the frames only.

Shapes: n clips, T frames, H = W = size pixels.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from gentok.data.imageset import generator, to_uint8
from gentok.data.world import COLOURS, SHAPES, Scenes, sample_scenes
from gentok.data.world_images import render_images
from gentok.data.world_video import at

DIRECTIONS: dict[str, tuple[float, float]] = {  # x right, y down
    "right": (1.0, 0.0),
    "left": (-1.0, 0.0),
    "down": (0.0, 1.0),
    "up": (0.0, -1.0),
}
# Pixels a frame in a picture of 32 pixels; other sizes in proportion.
SPEEDS: dict[str, tuple[float, float]] = {"slowly": (0.5, 1.2), "quickly": (2.2, 3.0)}
FLOORS = ("dark", "plain", "textured")
DARK = (0.12, 0.12, 0.15)  # RGB in [0, 1], one floor for all
RADIUS = (0.26, 0.32)  # of the circle that holds the shape; the picture is 2 wide
CHUNK = 1024  # pictures rendered at a time


@dataclass(frozen=True)
class Clips:
    """Videos and what they show.

    Attributes:
        video: (n, T, 3, H, W), uint8.
        captions: n sentences, "a red star moving left slowly".
        direction: index into DIRECTIONS, (n,) int64.
        speed: pixels a frame, (n,).
        scenes: what was drawn; :func:`gentok.data.world_video.at` moves it to any frame.
    """

    video: Tensor
    captions: list[str]
    direction: Tensor
    speed: Tensor
    scenes: Scenes

    def __len__(self) -> int:
        return len(self.video)


def caption(colour: int, shape: int, direction: int, manner: str = "") -> str:
    """A sentence such as "an orange star moving left", from the indices of its words.

    Args:
        colour, shape, direction: indices into COLOURS, SHAPES and DIRECTIONS.
        manner: a word to put behind, such as a name of SPEEDS.
    """
    name = list(COLOURS)[colour]
    article = "an" if name[0] in "aeiou" else "a"
    sentence = f"{article} {name} {SHAPES[shape]} moving {list(DIRECTIONS)[direction]}"
    return f"{sentence} {manner}".rstrip()


def _uniform(rng: torch.Generator, n: int, low: float | Tensor, high: float | Tensor) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def moving_clips(
    n: int,
    seed: int = 0,
    size: int = 32,
    frames: int = 8,
    speed: str | tuple[float, float] | None = None,
    radius: tuple[float, float] = RADIUS,
    floor: str = "plain",
    upright: bool = True,
    bounce: bool = False,
) -> Clips:
    """Draw n clips of one shape in straight motion.

    Args:
        n: number of clips; ``seed``: the same seed gives the same clips.
        size: side in pixels; ``frames``: T, 2 or more.
        speed: a name of SPEEDS, or (lowest, highest) pixels a frame, such as (4, 8); None draws a
            name for each clip and puts it into the caption.
        radius: (smallest, largest) of the circle that holds the shape; the picture is 2 wide.
        floor: "dark" (one for all), "plain" (shaded, of any colour) or "textured".
        upright: False turns each shape by a random angle and spins it.
        bounce: let long paths turn back at the edges; the caption names the first direction.

    Raises:
        ValueError: if an argument is not accepted, or a path may leave the picture without
            ``bounce``.
    """
    _check(n, size, frames, speed, radius, floor)
    scenes, rng = sample_scenes(n, seed, max_objects=1), generator(seed, 1)
    direction = torch.randint(len(DIRECTIONS), (n,), generator=rng)
    pixels, manners = _speeds(n, size, speed, rng)
    scenes = _moving(scenes, direction, pixels * 2 / size, frames, radius, bounce, rng)
    if floor != "textured":
        scenes = replace(scenes, texture=torch.zeros_like(scenes.texture))
    if floor == "dark":
        scenes = replace(scenes, floor=torch.tensor(DARK).expand_as(scenes.floor))
    if upright:
        still = torch.zeros_like(scenes.angle)
        scenes = replace(scenes, angle=still, spin=still)
    looks = scenes.colour[:, 0].tolist(), scenes.shape[:, 0].tolist(), direction.tolist()
    captions = [caption(*look) for look in zip(*looks, manners, strict=True)]
    return Clips(render_clips(scenes, frames, size), captions, direction, pixels, scenes)


def render_clips(scenes: Scenes, frames: int, size: int = 32) -> Tensor:
    """The frames alone of :func:`gentok.data.render_video`, as bytes: (n, T, 3, H, W) uint8."""
    parts = []
    for first in range(0, len(scenes), max(1, CHUNK // frames)):
        part = scenes[first : first + max(1, CHUNK // frames)]
        if part.pan.any():  # a sliding floor needs the time of each frame
            video = [to_uint8(render_images(at(part, t), size, t)) for t in range(frames)]
        else:  # all frames at once, time slowest
            moved = [at(part, t) for t in range(frames)]
            names = [f.name for f in fields(Scenes)]
            stacked = Scenes(*(torch.cat([getattr(m, name) for m in moved]) for name in names))
            video = to_uint8(render_images(stacked, size)).split(len(part))
        parts.append(torch.stack(list(video), 1))
    return torch.cat(parts)


def _speeds(
    n: int, size: int, speed: str | tuple[float, float] | None, rng: torch.Generator
) -> tuple[Tensor, list[str]]:
    """Pixels a frame, (n,), and the caption's word for each; "" for a speed given in numbers."""
    if isinstance(speed, tuple):
        return _uniform(rng, n, *speed), [""] * n
    names = list(SPEEDS)
    chosen = torch.randint(len(names), (n,), generator=rng)
    if speed is not None:
        chosen = torch.full((n,), names.index(speed))
    low, high = torch.tensor(list(SPEEDS.values()))[chosen].unbind(1)  # (n,)
    return _uniform(rng, n, low, high) * size / 32, [names[k] for k in chosen.tolist()]


def _moving(
    scenes: Scenes,
    direction: Tensor,
    speed: Tensor,
    frames: int,
    radius: tuple[float, float],
    bounce: bool,
    rng: torch.Generator,
) -> Scenes:
    """The scenes with a path each: ``speed`` (n,) in scene units a frame."""
    n, heading = len(scenes), torch.tensor(list(DIRECTIONS.values()))[direction]  # (n, 2)
    size = _uniform(rng, n, *radius)
    free = 1 - size  # centres stay in [-free, free]
    travel = speed * (frames - 1)
    if not bounce and (travel > 2 * free).any():
        worst = int((travel - 2 * free).argmax())
        raise ValueError(
            f"speed: a path of {float(travel[worst]):.2f} leaves the {2 * float(free[worst]):.2f} "
            "that the picture has room for; take fewer frames, less speed or radius, or bounce=True"
        )
    room = (free - travel / 2).clamp_min(0)  # for the middle of the path
    along = _uniform(rng, n, -room, room) - (travel / 2).minimum(free)
    across = _uniform(rng, n, -free, free)
    start = along[:, None] * heading + across[:, None] * heading.flip(1).abs()
    return replace(
        scenes,
        radius=size[:, None],
        position=start[:, None],
        velocity=(speed[:, None] * heading)[:, None],
    )


def _check(n, size, frames, speed, radius, floor) -> None:
    if n < 1 or size < 4 or frames < 2:
        raise ValueError(f"need n >= 1, size >= 4 and frames >= 2, got {n}, {size} and {frames}")
    if isinstance(speed, str) and speed not in SPEEDS:
        raise ValueError(f"speed must be one of {tuple(SPEEDS)} or a range, got {speed!r}")
    if isinstance(speed, tuple) and not (len(speed) == 2 and 0 <= speed[0] <= speed[1]):
        raise ValueError(f"speed must be (lowest, highest) in pixels a frame, got {speed}")
    if not (len(radius) == 2 and 0 < radius[0] <= radius[1] < 1):
        raise ValueError(f"radius must be (smallest, largest) in (0, 1), got {radius}")
    if floor not in FLOORS:
        raise ValueError(f"floor must be one of {FLOORS}, got {floor!r}")
