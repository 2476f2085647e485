"""Labelled point clouds: solids of random proportions, objects made of parts, files of one's own.

Shapes: N clouds, B batch, P points; coordinates (x, y, z) with z up, no unit: every cloud has its
mean at 0 and its farthest point at distance 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentok.data import folder
from gentok.data.files import read_array, reading
from gentok.data.imageset import batches, generator
from gentok.data.mesh_files import as_mesh, is_mesh, read_surface
from gentok.data.world_solids import SOLID_NAMES, sample_mesh, solid_mesh

RESOLUTION = 32  # cells of the meshes that clouds are drawn from: finer than any cloud here
STRETCH = 0.5  # log of the largest factor of an axis; two axes differ by up to e
FARTHEST, SMALLEST = 1e30, 1e-9  # a coordinate of a file, and the extent of its cloud
FOLDER = "clouds"  # of GENTOK_DATA: clouds/<class>/*.npy, or meshes in their place
MESH_POINTS = 8192  # drawn from a mesh, as many as ShapeNet's clouds have

# Objects: each part is (name, solid, centre, half sizes); sizes are drawn anew for every object.
OBJECT_NAMES = ("table", "chair", "lamp", "mug")
PART_NAMES = (
    *("table top", "table leg", "chair seat", "chair back", "chair leg"),
    *("lamp base", "lamp pole", "lamp shade", "mug body", "mug handle"),
)
PARTS_OF = ((0, 1), (2, 3, 4), (5, 6, 7), (8, 9))  # object -> its parts
Part = tuple[str, str, tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Clouds:
    """Clouds of equally many points.

    Attributes:
        points: (N, P, 3), float32.
        labels: (N,), int64, each in [0, len(class_names)).
        class_names: one name a label.
        parts: (N, P), int64, the part that each point lies on, or None.
    """

    points: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    class_names: tuple[str, ...]
    parts: Tensor | None = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self.points)

    def subset(self, index: Tensor | slice) -> "Clouds":
        """The clouds that ``index`` (a slice, or positions (M,), or a mask (N,)) selects."""
        parts = None if self.parts is None else self.parts[index]
        return Clouds(self.points[index], self.labels[index], self.class_names, parts)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors under the names that models read: points, label, and parts if there are."""
        found = {"points": self.points, "label": self.labels}
        return found if self.parts is None else found | {"parts": self.parts}


def normalize(points: Tensor) -> Tensor:
    """Move the mean of each cloud (..., P, 3) to 0 and scale its farthest point to distance 1."""
    points = points - points.mean(-2, keepdim=True)
    return points / points.norm(dim=-1).amax(-1)[..., None, None].clamp_min(1e-12)


def scale_and_shift(points: Tensor, rng: torch.Generator) -> Tensor:
    """Augment: stretch each axis by U(2/3, 3/2), then move it by U(-0.2, 0.2); (B, P, 3)."""
    scale, shift = torch.rand(2, len(points), 1, 3, generator=rng)
    return points * (2 / 3 + 5 / 6 * scale) + 0.4 * shift - 0.2


def solid_clouds(
    n: int, num_points: int = 1024, seed: int = 0, classes: Sequence[str] = SOLID_NAMES
) -> Clouds:
    """Solids with random proportions, all upright as in ShapeNet; classes in turn.

    Proportions blur the classes: a long box, a wide bar and a stretched hexagon look alike.

    Raises:
        ValueError: if ``n`` or ``num_points`` is below 1, or a class is unknown.
    """
    _check(n, num_points)
    labels = torch.arange(n) % len(classes)
    points = torch.empty(n, num_points, 3)
    for i, label in enumerate(labels.tolist()):
        rng = generator(seed, i)
        vertices, faces = solid_mesh(classes[label], RESOLUTION)
        stretched = vertices * torch.exp((2 * torch.rand(3, generator=rng) - 1) * STRETCH)
        points[i], _ = sample_mesh(stretched, faces, num_points, _draw(rng))
    return Clouds(normalize(points), labels, tuple(classes))


def object_clouds(n: int, num_points: int = 1024, seed: int = 0) -> Clouds:
    """Tables, chairs, lamps and mugs with the part of every point; proportions are random.

    Raises:
        ValueError: if ``n`` or ``num_points`` is below 1.
    """
    _check(n, num_points)
    labels = torch.arange(n) % len(OBJECT_NAMES)
    points, parts = torch.empty(n, num_points, 3), torch.empty(n, num_points, dtype=torch.int64)
    for i, label in enumerate(labels.tolist()):
        rng = generator(seed, i, 1)
        points[i], parts[i] = _assemble(_BUILDERS[label](rng), num_points, rng)
    return Clouds(normalize(points), labels, OBJECT_NAMES, parts)


def cloud_batches(
    clouds: Clouds | dict[str, Tensor],
    batch_size: int,
    seed: int = 0,
    num_points: int | None = None,
    augment: bool = True,
) -> Callable[[int], dict[str, Tensor]]:
    """Endless shuffled batches of clouds as a pure function of the step.

    Args:
        clouds: a set, or tensors with the key "points" (and "parts" if points have one).
        batch_size: B.
        seed: picks order, points and augmentation.
        num_points: a fresh random choice of so many points each time; all if None.
        augment: apply `scale_and_shift`.

    Returns:
        ``f(step)`` giving "points" (B, P, 3) and the set's other tensors.

    Raises:
        ValueError: if ``num_points`` is more than there are, or as `gentok.data.batches`.
    """
    source = clouds.tensors() if isinstance(clouds, Clouds) else clouds
    total = source["points"].shape[1]
    if num_points is not None and not 1 <= num_points <= total:
        raise ValueError(f"num_points must lie in 1..{total}, got {num_points}")
    draw = batches(source, batch_size, seed)

    def batch(step: int) -> dict[str, Tensor]:
        items, rng = draw(step), generator(seed, step, 2)
        if num_points is not None and num_points < total:
            index = torch.rand(batch_size, total, generator=rng).argsort(-1)[:, :num_points]
            items["points"] = items["points"].gather(1, index[..., None].expand(-1, -1, 3))
            if "parts" in items:
                items["parts"] = items["parts"].gather(1, index)
        if augment:
            items["points"] = scale_and_shift(items["points"], rng)
        return items

    return batch


def cloud_files(num_points: int, name: str = FOLDER) -> tuple[list[Path], Tensor, tuple[str, ...]]:
    """Point clouds under ``GENTOK_DATA/<name>/<class>``, or meshes that they are drawn from.

    A cloud is an array (at least P, 3) in a .npy file, or a PLY or OFF file without faces; a mesh
    is an OBJ, OFF or PLY file.

    Returns:
        the files, the label of each (N,), and the class names. `read_cloud` opens one.

    Raises:
        FileNotFoundError: if there are none.
    """
    place = folder.find(name)
    found = sorted(place.glob("*/*")) if place else []
    files = [path for path in found if path.suffix == ".npy" or is_mesh(path)]
    if not files:
        what = f"point clouds of {num_points} points or more"
        raise folder.missing(what, f"{name}/<class>/*.npy (or .obj, .off, .ply)")
    names = tuple(sorted({path.parent.name for path in files}))
    return files, torch.tensor([names.index(path.parent.name) for path in files]), names


def read_cloud(path: Path, num_points: int) -> Tensor:
    """A cloud of a file, normalised, (P, 3); of a mesh, points spread evenly over its area.

    Raises:
        ValueError: if the file is damaged, holds fewer points, another width or numbers that are
            not finite, or all its points are one.
    """
    if is_mesh(path):
        array = _drawn(path, max(num_points, MESH_POINTS), path.stat().st_mtime_ns)
    else:
        array = read_array(path)
    if array.ndim != 2 or array.shape[1] < 3 or len(array) < num_points:
        raise ValueError(f"{path} must be ({num_points} or more, 3), got {array.shape}")
    if array.dtype.kind not in "fiu" or not float(np.abs(array[:, :3]).max()) <= FARTHEST:
        raise ValueError(f"{path} must hold numbers up to {FARTHEST:g}, got {array.dtype}")
    # In float64: coordinates of maps, around 4.5e6, lose their shape in float32.
    points = torch.from_numpy(array[:, :3].astype(np.float64))
    if not (points.amax(0) - points.amin(0)).max() >= SMALLEST:
        raise ValueError(f"{path}: all its points are one")
    return normalize(points).float()


@lru_cache(maxsize=1024)  # some 200 MB at most: a mesh takes a hundred times as long as a cloud
def _drawn(path: Path, count: int, changed: int) -> np.ndarray:
    """``count`` points of a mesh, always the same, or all vertices of a file without faces.

    ``changed``: when the file was, so that another in its place is read anew.
    """
    surface = read_surface(path)
    if not len(surface.sizes):
        return surface.corners
    mesh = as_mesh(surface, path)
    with reading(path, "mesh"):
        return sample_mesh(mesh.vertices, mesh.faces, count)[0].numpy()


@lru_cache(maxsize=len(SOLID_NAMES) + 1)
def _mesh(solid: str) -> tuple[Tensor, Tensor]:
    """A solid's mesh with the bounding box [-1, 1]^3, so that half sizes can be set."""
    vertices, faces = solid_mesh("torus" if solid == "handle" else solid, RESOLUTION)
    if solid == "handle":  # a torus that stands upright
        vertices = vertices[:, [0, 2, 1]]
    low, high = vertices.amin(0), vertices.amax(0)
    return (2 * vertices - low - high) / (high - low), faces


def _draw(rng: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=rng))


def _assemble(layout: list[Part], num_points: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points spread evenly over all parts, (P, 3) in random order, and their parts, (P,)."""
    solids = []
    for _, solid, centre, half in layout:
        vertices, faces = _mesh(solid)
        solids.append((vertices * torch.tensor(half) + torch.tensor(centre), faces))
    areas = torch.stack([_area(*solid) for solid in solids])
    owner = torch.multinomial(areas, num_points, replacement=True, generator=rng)
    counts = torch.bincount(owner, minlength=len(layout)).tolist()
    drawn = [
        sample_mesh(*solid, count, _draw(rng))[0]
        for solid, count in zip(solids, counts, strict=True)
    ]
    names = torch.tensor([PART_NAMES.index(name) for name, *_ in layout])
    parts = names.repeat_interleave(torch.tensor(counts))
    order = torch.randperm(num_points, generator=rng)
    return torch.cat(drawn)[order], parts[order]


def _area(vertices: Tensor, faces: Tensor) -> Tensor:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2


def _between(rng: torch.Generator, *bounds: tuple[float, float]) -> list[float]:
    """A uniform draw from each interval."""
    draws = torch.rand(len(bounds), generator=rng).tolist()
    return [low + u * (high - low) for (low, high), u in zip(bounds, draws, strict=True)]


def _legs(name: str, x: float, y: float, top: float, thick: float) -> list[Part]:
    """Four posts from z = 0 up to ``top`` under the corners (+-x, +-y)."""
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    half = (thick, thick, top / 2)
    return [(name, "box", (a * (x - thick), b * (y - thick), top / 2), half) for a, b in signs]


def _table(rng: torch.Generator) -> list[Part]:
    x, y, top, leg, thick = _between(
        rng, (0.7, 1.2), (0.5, 0.9), (0.7, 1.3), (0.05, 0.12), (0.04, 0.1)
    )
    board = ("table top", "box", (0.0, 0.0, top + thick), (x, y, thick))
    return [board, *_legs("table leg", x, y, top, leg)]


def _chair(rng: torch.Generator) -> list[Part]:
    x, y, top, leg, thick, back = _between(
        rng, (0.4, 0.6), (0.4, 0.6), (0.5, 0.9), (0.04, 0.09), (0.04, 0.1), (0.35, 0.7)
    )
    seat = ("chair seat", "box", (0.0, 0.0, top + thick), (x, y, thick))
    rest = ("chair back", "box", (0.0, y - thick, top + 2 * thick + back), (x, thick, back))
    return [seat, rest, *_legs("chair leg", x, y, top, leg)]


def _lamp(rng: torch.Generator) -> list[Part]:
    foot, pole, thin, wide, shade = _between(
        rng, (0.3, 0.6), (0.6, 1.1), (0.05, 0.1), (0.4, 0.8), (0.25, 0.5)
    )
    return [
        ("lamp base", "cylinder", (0.0, 0.0, 0.07), (foot, foot, 0.07)),
        ("lamp pole", "cylinder", (0.0, 0.0, pole), (thin, thin, pole)),
        ("lamp shade", "cone", (0.0, 0.0, 2 * pole), (wide, wide, shade)),
    ]


def _mug(rng: torch.Generator) -> list[Part]:
    wide, tall, ear, thick = _between(rng, (0.5, 0.8), (0.5, 1.0), (0.25, 0.45), (0.06, 0.12))
    return [
        ("mug body", "cylinder", (0.0, 0.0, tall), (wide, wide, tall)),
        ("mug handle", "handle", (wide, 0.0, tall), (ear, thick, 1.2 * ear)),
    ]


_BUILDERS = (_table, _chair, _lamp, _mug)


def _check(n: int, num_points: int) -> None:
    if min(n, num_points) < 1:
        raise ValueError(f"n and num_points must be 1 or more, got {n} and {num_points}")
