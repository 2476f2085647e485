"""Pictures with their scene graphs: two or three objects, boxes, and all relations between them.

The procedural world's shapes on a plain grey floor. In a part of the pictures a large square has
another object inside it, so that all predicates occur. No shape and no colour comes twice in a
picture: a node of a graph, named by its shape, is one object of the picture and can be found in it.
The colour is in no graph. No two objects stand near the border between two predicates, and all
stand on a grid of eight by eight places, so that few codes can tell all there is to see.

Shapes: n scenes, S nodes (K = S - 1 places for objects, and the image), E edges.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gentok.data.imageset import generator, to_uint8
from gentok.data.relations import IN_IMAGE, INSIDE, SURROUNDING, relate
from gentok.data.world import COLOURS, SHAPES, Scenes
from gentok.data.world_images import render_images

LABELS = ("image", "disc", "square", "triangle")  # node classes; 0 is the image's, and of padding
PALETTE = ("red", "yellow", "green", "blue")
SQUARE = LABELS.index("square")
GREY = 0.5  # of the floor
STEP = 0.25  # of the grid in scene units: 4 pixels of 32
WIDE, WIDE_HOLDER = 2 * STEP, 5 * STEP  # of objects, and of a square that holds another
HOLDING = 0.5  # share of scenes in which one object lies inside another
GAP = 0.11  # between boxes, in scene units: more than one pixel of 32
CLEAR = math.radians(8)  # from the border between two directions
TRIES = 48  # places drawn at once for a scene
# x0, y0, x1, y1 of a shape of radius 1 about its centre of area; y points down.
EXTENTS = {
    "disc": (-0.85, -0.85, 0.85, 0.85),
    "square": (-0.7, -0.7, 0.7, 0.7),
    "triangle": (-math.sqrt(0.75), -1.0, math.sqrt(0.75), 0.5),
}


@dataclass(frozen=True)
class GraphScenes:
    """Pictures and their graphs. The image is each graph's first node; padding has its label.

    Attributes:
        images: (n, 3, H, W) uint8.
        labels: indices into LABELS, (n, S) int64; 0 for the image and for padding.
        boxes: (x0, y0, x1, y1) in [0, 1], (n, S, 4); the whole picture for image and padding.
        edges: (subject, predicate, object) as (node, index into PREDICATES, node), (n, E, 3) int64;
            rows of -1 are padding. Every object is "in image"; all other ordered pairs follow.
        colours: indices into PALETTE, (n, S) int64; -1 for image and padding.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor
    edges: Tensor
    colours: Tensor

    source = "procedural world: two or three shapes on a grey floor, with their scene graphs"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> "GraphScenes":
        """The scenes that a slice, positions (m,) or a mask (n,) selects."""
        return GraphScenes(*(getattr(self, f.name)[index] for f in fields(self)))

    @property
    def num_objects(self) -> Tensor:
        """Objects of each scene, (n,)."""
        return (self.labels > 0).sum(1)


def graph_scenes(n: int, size: int = 32, seed: int = 0) -> GraphScenes:
    """Draw scenes with their graphs.

    Args:
        n: number of scenes.
        size: side in pixels.
        seed: the same seed gives the same scenes.

    Raises:
        ValueError: if ``n`` < 1 or ``size`` < 4.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    rng = generator(seed, 41)
    k = 3
    kind = torch.rand(n, k, generator=rng).argsort(1) + 1  # (n, K) labels, all different
    present = torch.arange(k) < torch.randint(2, k + 1, (n, 1), generator=rng)
    holds = torch.rand(n, 1, generator=rng) < HOLDING
    is_square = (kind == SQUARE) & present
    holder = is_square & holds  # (n, K): the square that another object lies in
    kept = (~is_square & present).int().argmax(1)  # the first that is no square lies inside
    inside = holder.any(1, keepdim=True) & (torch.arange(k) == kept[:, None])
    position, radius = _places(rng, kind, present, holder, inside)
    colour = torch.rand(n, len(PALETTE), generator=rng).argsort(1)[:, :k]
    images = _drawn(kind, colour, present, holder, position, radius, size)
    return _assemble(images, kind, colour, present, position, radius)


def extents(kind: Tensor, position: Tensor, radius: Tensor) -> Tensor:
    """Boxes in scene units: labels (...), centres (..., 2), radii (...) -> (..., 4)."""
    table = torch.tensor([EXTENTS[name] for name in LABELS[1:]])
    return (
        position.repeat_interleave(2, -1)[..., [0, 2, 1, 3]] + radius[..., None] * table[kind - 1]
    )


def _places(
    rng: torch.Generator, kind: Tensor, present: Tensor, holder: Tensor, inside: Tensor
) -> tuple[Tensor, Tensor]:
    """Positions (n, K, 2) and radii (n, K): drawn until no rule is broken."""
    n, k = kind.shape
    position, radius = torch.zeros(n, k, 2), torch.ones(n, k)
    table = torch.tensor([EXTENTS[name] for name in LABELS[1:]])
    across = table[:, 2] - table[:, 0]  # of radius 1
    left = torch.arange(n)
    while len(left):
        shape = (len(left), TRIES, k)
        tried_kind = kind[left][:, None].expand(shape)
        width = torch.where(holder[left], WIDE_HOLDER, WIDE)[:, None].expand(shape)
        size = width / across[tried_kind - 1]  # radius
        reach = extents(tried_kind, torch.zeros(*shape, 2), size)  # (m, tries, K, 4)
        # The upper left corner on the grid, the box inside the picture.
        room = ((2 - (reach[..., 2:] - reach[..., :2])) / STEP + 1e-4).floor() + 1
        steps = (torch.rand(*shape, 2, generator=rng) * room).floor()
        place = steps * STEP - 1 - reach[..., :2]
        boxes = extents(tried_kind, place, size)
        good = _allowed(boxes, place, present[left], holder[left], inside[left])  # (m, tries)
        found, first = good.any(1), good.int().argmax(1)
        rows = torch.arange(len(left))
        position[left[found]] = place[rows, first][found]
        radius[left[found]] = size[rows, first][found]
        left = left[~found]
    return position, radius


def _allowed(
    boxes: Tensor, place: Tensor, present: Tensor, holder: Tensor, inside: Tensor
) -> Tensor:
    """Which tries break no rule, (m, tries) bool: apart or nested by a gap, and clearly so."""
    k = boxes.shape[2]
    good = torch.ones(boxes.shape[:2], dtype=torch.bool)
    for a in range(k):
        for b in range(k):
            if a == b:
                continue
            one, two = boxes[:, :, a], boxes[:, :, b]
            nested = (two[..., :2] + GAP < one[..., :2]) & (one[..., 2:] < two[..., 2:] - GAP)
            apart = (one[..., :2] > two[..., 2:] + GAP) | (two[..., :2] > one[..., 2:] + GAP)
            dx, dy = (place[:, :, a] - place[:, :, b]).unbind(-1)
            slant = torch.atan2(dy.abs(), dx.abs())  # 0 to pi / 2
            clear = apart.any(-1) & ((slant - math.pi / 4).abs() > CLEAR)
            lies_in = (inside[:, a] & holder[:, b])[:, None]
            either = lies_in | (inside[:, b] & holder[:, a])[:, None]
            asked = torch.where(lies_in, nested.all(-1), torch.where(either, True, clear))
            both = (present[:, a] & present[:, b])[:, None]
            good &= asked | ~both
    return good


def _drawn(
    kind: Tensor,
    colour: Tensor,
    present: Tensor,
    holder: Tensor,
    position: Tensor,
    radius: Tensor,
    size: int,
) -> Tensor:
    """Pictures (n, 3, H, W) uint8; a square that holds an object is drawn before it."""
    n = len(kind)
    order = (~holder).int().argsort(dim=1, stable=True)
    name = torch.tensor([SHAPES.index(shape) for shape in LABELS[1:]])
    rgb = torch.tensor([COLOURS[c] for c in PALETTE])
    none = torch.zeros(n, kind.shape[1])
    scenes = Scenes(
        shape=name[kind - 1].gather(1, order),
        colour=colour.gather(1, order),
        present=present.gather(1, order),
        position=position.gather(1, order[..., None].expand(-1, -1, 2)),
        radius=radius.gather(1, order),
        angle=none,
        tint=rgb[colour].gather(1, order[..., None].expand(-1, -1, 3)),
        velocity=torch.zeros(n, kind.shape[1], 2),
        spin=none,
        large=holder.gather(1, order),
        texture=torch.zeros(n, dtype=torch.int64),
        floor=torch.full((n, 2, 3), GREY),
        frequency=torch.ones(n),
        direction=torch.zeros(n),
        phase=torch.zeros(n, 2),
        pan=torch.zeros(n, 2),
    )
    parts = [scenes[i : i + 512] for i in range(0, n, 512)]
    return torch.cat([to_uint8(render_images(part, size)) for part in parts])


def _assemble(
    images: Tensor,
    kind: Tensor,
    colour: Tensor,
    present: Tensor,
    position: Tensor,
    radius: Tensor,
) -> GraphScenes:
    """Nodes and edges of scenes: the image, then the objects."""
    n, k = kind.shape
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(n, k, 4)
    boxes = (extents(kind, position, radius) + 1) / 2
    boxes = torch.where(present[..., None], boxes, whole)
    middle = (position + 1) / 2
    rows = [(node, torch.full((n,), IN_IMAGE), 0, present[:, node - 1]) for node in range(1, k + 1)]
    for a in range(k):
        for b in range(k):
            if a != b:
                said = relate(boxes[:, a], boxes[:, b], middle[:, a], middle[:, b])
                rows.append((a + 1, said, b + 1, present[:, a] & present[:, b]))
    edges = []
    for subject, said, other, valid in rows:
        row = torch.stack([torch.full((n,), subject), said, torch.full((n,), other)], 1)
        edges.append(torch.where(valid[:, None], row, -1))
    zero = torch.zeros(n, 1, dtype=torch.int64)
    return GraphScenes(
        images=images,
        labels=torch.cat([zero, torch.where(present, kind, 0)], 1),
        boxes=torch.cat([whole[:, :1], boxes], 1),
        edges=torch.stack(edges, 1),
        colours=torch.cat([zero - 1, torch.where(present, colour, -1)], 1),
    )


def nested(scenes: GraphScenes) -> Tensor:
    """Which scenes hold an object inside another, (n,) bool."""
    said = scenes.edges[..., 1]
    return ((said == INSIDE) | (said == SURROUNDING)).any(1)
