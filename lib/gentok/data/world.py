"""The procedural world: seeded scenes that every modality is rendered from.

A scene is a floor with up to K objects on it, seen from straight above: each object has a shape, a
colour, a position, a radius, an angle and a velocity. Pictures, masks and video show the floor plan
(`world_images`, `world_video`); `world_views` stands a solid with the same outline on each place
and looks from the side; scene graphs and captions, here, say the same in words.

Coordinates: x right and y down, the picture spans [-1, 1] in both; angles in radians, counted
counter-clockwise as seen; time in frames. Shapes: n scenes, K places for objects.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gentok.data.imageset import generator
from gentok.data.world_flat import FLAT

SHAPES = tuple(FLAT)
COLOURS: dict[str, tuple[float, float, float]] = {  # RGB in [0, 1]
    "red": (0.86, 0.16, 0.16),
    "orange": (0.96, 0.55, 0.12),
    "yellow": (0.96, 0.86, 0.20),
    "green": (0.20, 0.65, 0.27),
    "cyan": (0.20, 0.75, 0.82),
    "blue": (0.17, 0.33, 0.85),
    "purple": (0.54, 0.23, 0.74),
    "white": (0.94, 0.94, 0.92),
}
TEXTURES = ("plain", "striped", "checked", "dotted", "cloudy", "grainy")
RELATIONS = ("left of", "right of", "above", "below")
SMALL, LARGE = 0.62, 0.86  # radius as a part of the room that an object has
BIG = 0.74  # from here on an object is called large, below it small


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes as tensors; places without an object have ``present`` False.

    Attributes:
        shape, colour: indices into SHAPES and COLOURS, (n, K) int64.
        present: whether the place holds an object, (n, K) bool; place 0 always does.
        position: centre of area, (n, K, 2) as (x, y).
        radius: of the circle that holds the shape, (n, K).
        angle: counter-clockwise, (n, K).
        tint: RGB in [0, 1], a variation of the named colour, (n, K, 3).
        velocity: (n, K, 2), per frame; ``spin``: radians per frame, (n, K).
        large: whether the object fills at least BIG of its room, (n, K) bool.
        texture: index into TEXTURES of the floor, (n,) int64.
        floor: the floor's two colours, RGB in [0, 1], (n, 2, 3).
        frequency: of the floor's pattern, cycles per picture width, (n,).
        direction, phase: of the pattern, (n,) radians and (n, 2) in [0, 1).
        pan: how the floor moves, (n, 2), per frame.
    """

    shape: Tensor
    colour: Tensor
    present: Tensor
    position: Tensor
    radius: Tensor
    angle: Tensor
    tint: Tensor
    velocity: Tensor
    spin: Tensor
    large: Tensor
    texture: Tensor
    floor: Tensor
    frequency: Tensor
    direction: Tensor
    phase: Tensor
    pan: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: slice | Tensor) -> "Scenes":
        """The scenes that a slice, positions (m,) or a mask (n,) selects."""
        return Scenes(*(getattr(self, f.name)[index] for f in fields(self)))


def _uniform(rng: torch.Generator, low: float, high: float, *size: int) -> Tensor:
    return torch.rand(size, generator=rng) * (high - low) + low


def sample_scenes(
    n: int, seed: int = 0, max_objects: int = 3, moving_floor: bool = False
) -> Scenes:
    """Draw scenes: one to ``max_objects`` objects, never overlapping, each wholly in the picture.

    The floor is cut into square rooms, as many as needed; each object gets a room of its own and a
    random place in it. (In a video they leave their rooms and may cover each other.)

    Args:
        n: number of scenes.
        seed: the same seed gives the same scenes.
        max_objects: K, 1 to 9.
        moving_floor: give the floor a velocity too, as if the camera moved.

    Raises:
        ValueError: if ``n`` < 1 or ``max_objects`` is not in 1..9.
    """
    if n < 1 or not 1 <= max_objects <= 9:
        raise ValueError(f"need n >= 1 and max_objects in 1..9, got {n} and {max_objects}")
    rng, k = generator(seed), max_objects
    side = math.ceil(math.sqrt(k))  # side x side rooms
    half = 1 / side
    room = torch.rand(n, side * side, generator=rng).argsort(1)[:, :k]  # (n, K), all different
    centre = torch.stack([room % side, room // side], -1) * 2 * half - 1 + half  # (n, K, 2)
    fill = _uniform(rng, SMALL, LARGE, n, k)
    radius = fill * half
    jitter = _uniform(rng, -1, 1, n, k, 2) * (half - radius)[..., None]
    count = torch.randint(1, k + 1, (n, 1), generator=rng)
    colour = torch.randint(len(COLOURS), (n, k), generator=rng)
    named = torch.tensor(list(COLOURS.values()))[colour]
    heading = _uniform(rng, 0, 2 * math.pi, n, k)
    speed = _uniform(rng, 0.04, 0.12, n, k)
    drift = _uniform(rng, 0, 2 * math.pi, n)
    pan = torch.stack([drift.cos(), drift.sin()], -1) * _uniform(rng, 0.02, 0.06, n, 1)
    return Scenes(
        shape=torch.randint(len(SHAPES), (n, k), generator=rng),
        colour=colour,
        present=torch.arange(k) < count,
        position=centre + jitter,
        radius=radius,
        angle=_uniform(rng, -math.pi, math.pi, n, k),
        tint=(named + _uniform(rng, -0.06, 0.06, n, k, 3)).clamp(0, 1),
        velocity=torch.stack([heading.cos(), heading.sin()], -1) * speed[..., None],
        spin=_uniform(rng, -0.15, 0.15, n, k),
        large=fill >= BIG,
        texture=torch.randint(len(TEXTURES), (n,), generator=rng),
        floor=_floor_colours(rng, n),
        frequency=_uniform(rng, 3.0, 9.0, n),
        direction=_uniform(rng, 0, math.pi, n),
        phase=torch.rand(n, 2, generator=rng),
        pan=pan if moving_floor else torch.zeros(n, 2),
    )


def _floor_colours(rng: torch.Generator, n: int) -> Tensor:
    """Two muted colours a floor, (n, 2, 3): one hue, apart in brightness."""
    base = _uniform(rng, 0.25, 0.70, n, 1, 1) + _uniform(rng, -0.14, 0.14, n, 1, 3)
    step = _uniform(rng, 0.08, 0.24, n, 1, 1) + _uniform(rng, -0.05, 0.05, n, 1, 3)
    return torch.cat([base - step, base + step], 1).clamp(0.02, 0.98)


def scene_graphs(scenes: Scenes) -> list[dict]:
    """Objects and relations of each scene, as plain Python.

    Returns:
        n dicts: ``objects`` is a list of {"shape", "colour", "size", "position": (x, y), "radius",
        "angle"}; ``relations`` a list of (subject, relation, object), indices into ``objects``, one
        for each ordered pair; the relation is along the axis on which the two are further apart.
    """
    colours, graphs = list(COLOURS), []
    for i in range(len(scenes)):
        places = scenes.present[i].nonzero()[:, 0].tolist()
        objects = [
            {
                "shape": SHAPES[int(scenes.shape[i, k])],
                "colour": colours[int(scenes.colour[i, k])],
                "size": "large" if scenes.large[i, k] else "small",
                "position": tuple(scenes.position[i, k].tolist()),
                "radius": float(scenes.radius[i, k]),
                "angle": float(scenes.angle[i, k]),
            }
            for k in places
        ]
        pairs = [(a, b) for a in range(len(objects)) for b in range(len(objects)) if a != b]
        relations = [
            (a, _relation(objects[a]["position"], objects[b]["position"]), b) for a, b in pairs
        ]
        graphs.append({"objects": objects, "relations": relations})
    return graphs


def _relation(a: tuple[float, float], b: tuple[float, float]) -> str:
    dx, dy = a[0] - b[0], a[1] - b[1]
    if abs(dx) >= abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def captions(scenes: Scenes) -> list[str]:
    """One English sentence a scene: "a large red star left of a small blue disc, on a plain floor".

    Names every object once, each related to the one before it, and the floor.
    """
    sentences = []
    for graph, texture in zip(scene_graphs(scenes), scenes.texture.tolist(), strict=True):
        relation = {(a, b): words for a, words, b in graph["relations"]}
        names = [f"a {o['size']} {o['colour']} {o['shape']}" for o in graph["objects"]]
        said = names[0]
        for later in range(1, len(names)):
            link = ", which is " if later > 1 else " "
            said += f"{link}{relation[later - 1, later]} {names[later]}"
        sentences.append(f"{said}, on a {TEXTURES[texture]} floor")
    return sentences
