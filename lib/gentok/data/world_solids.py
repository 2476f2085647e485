"""Solids of the procedural world: exact signed distances, surface points and meshes.

Each flat shape is the footprint of one solid: a disc of a sphere, a ring of a torus, a bar of a
capsule, and every other shape of a prism. A cylinder and a cone join them as classes of their own.
All stand on the plane z = -height(shape), with z up, inside the unit circle in x and y.

A signed distance is negative inside; its gradient has length 1 almost everywhere.
Shapes of tensors: points are (..., 3), distances (...).
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gentok.data.imageset import generator
from gentok.data.world_flat import FLAT, beside_line, length, to_segment

THICK = 0.4  # half height of a prism
SQUARE_HALF = 0.7  # that of the flat square: the box is a cube
SPHERE, RING, TUBE, REACH, ROD = 0.85, 0.68, 0.24, 0.65, 0.3  # those of the flat shapes
CONE_RADIUS, CONE_HALF = 0.85, 0.85


def _prism(shape: str, half: float) -> Callable[[Tensor], Tensor]:
    """A flat shape times the interval [-half, half]."""

    def distance(p: Tensor) -> Tensor:
        d = FLAT[shape](p[..., 0], p[..., 1])
        w = p[..., 2].abs() - half
        return length(d.clamp_min(0), w.clamp_min(0)) + torch.maximum(d, w).clamp_max(0)

    return distance


def _sphere(p: Tensor) -> Tensor:
    return length(p[..., 0], p[..., 1], p[..., 2]) - SPHERE


def _torus(p: Tensor) -> Tensor:
    return length(length(p[..., 0], p[..., 1]) - RING, p[..., 2]) - TUBE


def _capsule(p: Tensor) -> Tensor:
    x = p[..., 0]
    return length(x - x.clamp(-REACH, REACH), p[..., 1], p[..., 2]) - ROD


def _cone(p: Tensor) -> Tensor:
    """A triangle in the half plane (distance from the axis, z), turned about the axis."""
    r, z = length(p[..., 0], p[..., 1]), p[..., 2]
    rim, tip = (CONE_RADIUS, -CONE_HALF), (0.0, CONE_HALF)
    distance = torch.minimum(to_segment(r, z, rim, tip), to_segment(r, z, (0.0, -CONE_HALF), rim))
    return distance.copysign(torch.maximum(beside_line(r, z, rim, tip), -CONE_HALF - z))


SOLIDS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {  # distance, half height
    "sphere": (_sphere, SPHERE),
    "box": (_prism("square", SQUARE_HALF), SQUARE_HALF),
    "wedge": (_prism("triangle", THICK), THICK),
    "torus": (_torus, TUBE),
    "capsule": (_capsule, ROD),
    "cross": (_prism("cross", THICK), THICK),
    "star": (_prism("star", THICK), THICK),
    "hexagon": (_prism("hexagon", THICK), THICK),
    "heart": (_prism("heart", THICK), THICK),
    "moon": (_prism("moon", THICK), THICK),
    "cylinder": (_prism("disc", THICK), THICK),
    "cone": (_cone, CONE_HALF),
}
SOLID_NAMES = tuple(SOLIDS)
SOLID_OF = dict(zip(FLAT, SOLIDS, strict=False))  # flat shape -> solid that stands on it


def _solid(shape: str) -> tuple[Callable[[Tensor], Tensor], float]:
    shape = SOLID_OF.get(shape, shape)
    if shape not in SOLIDS:
        raise ValueError(f"shape must be one of {', '.join(SOLIDS)}, got {shape!r}")
    return SOLIDS[shape]


def signed_distance(shape: str, points: Tensor) -> Tensor:
    """Exact signed distance to a solid, or to the solid that stands on a flat shape.

    Args:
        shape: a name of SOLIDS or of the flat shapes.
        points: (..., 3).

    Returns:
        (...), in the units of ``points``.

    Raises:
        ValueError: if the shape is unknown or ``points`` has not three coordinates.
    """
    if points.shape[-1] != 3:
        raise ValueError(f"points must be (..., 3), got {tuple(points.shape)}")
    return _solid(shape)[0](points)


def height(shape: str) -> float:
    """Half the height of a solid: how far its centre is above the floor it stands on."""
    return _solid(shape)[1]


def distance_gradient(shape: str, points: Tensor) -> Tensor:
    """Gradient of :func:`signed_distance`, (..., 3); on the surface the outward normal."""
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        return torch.autograd.grad(signed_distance(shape, leaf).sum(), leaf)[0]


@lru_cache(maxsize=len(SOLIDS))
def solid_mesh(shape: str, resolution: int = 64) -> tuple[Tensor, Tensor]:
    """Triangle mesh of a solid by marching cubes: vertices (V, 3) and faces (F, 3) int64.

    Args:
        shape: a name of SOLIDS.
        resolution: cells along each side of the cube [-1.05, 1.05]^3.
    """
    from skimage.measure import marching_cubes

    axis = torch.linspace(-1.05, 1.05, resolution + 1)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)  # (R, R, R, 3)
    step = float(axis[1] - axis[0])
    vertices, faces, _, _ = marching_cubes(
        signed_distance(shape, grid).numpy(), 0.0, spacing=(step, step, step)
    )
    corners = torch.from_numpy(vertices.astype(np.float32)) - 1.05
    return corners, torch.from_numpy(faces.astype(np.int64))


def sample_mesh(vertices: Tensor, faces: Tensor, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``n`` points spread evenly over the area of a triangle mesh.

    Args:
        vertices: (V, 3); ``faces``: (F, 3) indices.
        n: number of points.
        seed: picks them.

    Returns:
        points (n, 3), and the unit normal of the triangle each lies on, (n, 3).

    Raises:
        ValueError: if all triangles are empty.
    """
    rng = generator(seed)
    a, b, c = (vertices[faces[:, i]] for i in range(3))  # (F, 3) each
    normal = torch.linalg.cross(b - a, c - a)  # twice the area long
    area = normal.norm(dim=1).double().cumsum(0)
    if not area[-1] > 0:
        raise ValueError("the mesh has no triangle with an area")
    place = torch.rand(n, generator=rng, dtype=torch.float64) * area[-1]
    chosen = torch.searchsorted(area, place).clamp_max(len(area) - 1)
    u, v = torch.rand(2, n, 1, generator=rng)
    root = u.sqrt()  # uniform on a triangle: weights 1 - sqrt(u), sqrt(u) (1 - v), sqrt(u) v
    points = (1 - root) * a[chosen] + root * (1 - v) * b[chosen] + root * v * c[chosen]
    return points, torch.nn.functional.normalize(normal[chosen], dim=1)


def point_cloud(shape: str, n: int = 1024, seed: int = 0) -> Tensor:
    """``n`` points spread evenly over the surface of a solid, (n, 3).

    Drawn on its marching-cubes mesh, then moved onto the surface: from a point at signed distance d
    the nearest surface point is d against the gradient.

    Raises:
        ValueError: if the shape is unknown or ``n`` < 1.
    """
    _solid(shape)
    if n < 1:
        raise ValueError(f"n must be 1 or more, got {n}")
    points, _ = sample_mesh(*solid_mesh(SOLID_OF.get(shape, shape)), n, seed)
    for _ in range(3):  # one step is exact but for rounding and the creases
        d = signed_distance(shape, points)
        points = points - d[:, None] * distance_gradient(shape, points)
    return points
