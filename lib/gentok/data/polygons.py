"""Flat polygons in space as triangles: a fan where they are convex, ears cut off where not.

A fan from the first corner covers the dent of a concave polygon as well: the area comes out too
large and some triangles face the wrong way. Cutting ears (Meisters 1975) leaves the dent out.

Shapes: n corners of a polygon, (n, 3); V corners and F polygons of a surface.
"""

from dataclasses import dataclass

import numpy as np

Triangles = list[tuple[int, int, int]]
FARTHEST = 1e30  # of a coordinate: areas are products of two
MOST_EARS = 1000  # corners of a concave polygon: cutting ears takes the cube of their number


@dataclass(frozen=True)
class Surface:
    """Polygons as a file lists them, checked.

    Args:
        corners: (V, 3) float64, numbers up to FARTHEST: coordinates of maps lie far from 0.
        sizes: corners of each polygon, (F,) int64, 3 or more; F may be 0.
        rings: the polygons one after another, positions in ``corners``, (sum of sizes,) int64.

    Raises:
        ValueError: if any of this does not hold.
    """

    corners: np.ndarray
    sizes: np.ndarray
    rings: np.ndarray

    def __post_init__(self):
        count = len(self.corners)
        if not count:
            raise ValueError("it has no vertices")
        if not float(np.abs(self.corners).max()) <= FARTHEST:  # nor NaN
            raise ValueError(f"its vertices must be numbers up to {FARTHEST:g}")
        if len(self.sizes) and self.sizes.min() < 3:
            raise ValueError(f"a polygon needs three corners or more, got {self.sizes.min()}")
        if len(self.rings) and not 0 <= self.rings.min() <= self.rings.max() < count:
            raise ValueError(f"faces must name its {count} vertices")

    def triangles(self) -> np.ndarray:
        """All polygons cut into triangles, in the file's order: (sum of sizes - 2, 3) int64."""
        begins = self.sizes.cumsum() - self.sizes
        places = (self.sizes - 2).cumsum() - (self.sizes - 2)
        faces = np.empty((int((self.sizes - 2).sum()), 3), np.int64)
        for size in np.unique(self.sizes):
            chosen = np.flatnonzero(self.sizes == size)  # n polygons
            rings = self.rings[begins[chosen][:, None] + np.arange(size)]  # (n, size)
            fan = np.array([(0, b, b + 1) for b in range(1, size - 1)])
            cut = rings[:, fan]  # (n, size - 2, 3)
            for i in np.flatnonzero(~_convex(self.corners[rings])) if size > 3 else ():
                cut[i] = rings[i][np.array(triangulate(self.corners[rings[i]]))]
            faces[places[chosen][:, None] + np.arange(size - 2)] = cut
        return faces


def triangulate(corners: np.ndarray) -> Triangles:
    """Cut a simple polygon into n - 2 triangles that keep its sense of rotation.

    Args:
        corners: (n, 3), in order around it, n at least 3.

    Returns:
        triples of positions in ``corners``.

    Raises:
        ValueError: if there are fewer than three corners, or it is concave and has over a thousand.
    """
    if len(corners) < 3:
        raise ValueError(f"a polygon needs three corners or more, got {len(corners)}")
    fan = [(0, b, b + 1) for b in range(1, len(corners) - 1)]
    flat = _flat(corners.astype(np.float64))
    everyone = list(range(len(flat)))
    if all(_turn(flat, *corner) >= 0 for corner in _corners(everyone)):
        return fan
    if len(flat) > MOST_EARS:
        raise ValueError(f"a concave polygon may have {MOST_EARS} corners, got {len(flat)}")
    left, triangles = everyone, []
    while len(left) > 3:
        # A polygon always has an ear; one that crosses itself need not, and gets any corner cut.
        ear = next((c for c in _corners(left) if _is_ear(flat, c, left)), next(_corners(left)))
        triangles.append(ear)
        left = [corner for corner in left if corner != ear[1]]
    return [*triangles, (left[0], left[1], left[2])]


def _flat(corners: np.ndarray) -> np.ndarray:
    """(n, 3) -> (n, 2) in the polygon's own plane, counter-clockwise."""
    following = np.roll(corners, -1, 0)
    normal = np.cross(corners - corners[0], following - corners[0]).sum(0)  # twice its area
    keep = [axis for axis in range(3) if axis != (largest := int(np.abs(normal).argmax()))]
    # Leaving out y swaps the sense of rotation of the two that are left, as a negative normal does.
    swapped = (normal[largest] < 0) != (largest == 1)
    return corners[:, keep[::-1] if swapped else keep]


def _convex(polygons: np.ndarray) -> np.ndarray:
    """Which of n polygons (n, size, 3) turn one way at all corners, seen as `_flat` sees them."""
    following, before = np.roll(polygons, -1, 1), np.roll(polygons, 1, 1)
    first = polygons[:, :1]
    normal = np.cross(polygons - first, following - first).sum(1)  # (n, 3)
    largest = np.abs(normal).argmax(1)[:, None]
    turns = np.cross(polygons - before, following - before)  # (n, size, 3)
    along = np.take_along_axis(turns, largest[:, None], 2)[..., 0]
    sense = np.where(np.take_along_axis(normal, largest, 1) < 0, -1, 1)
    return (along * sense >= 0).all(1)


def _corners(ring: list[int]):
    """Each corner with its two neighbours: (before, corner, after)."""
    for i, corner in enumerate(ring):
        yield ring[i - 1], corner, ring[(i + 1) % len(ring)]


def _turn(flat: np.ndarray, a: int, b: int, c: int) -> float:
    """Twice the signed area of a triangle: above 0 if it turns left."""
    (ax, ay), (bx, by), (cx, cy) = flat[a], flat[b], flat[c]
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def _is_ear(flat: np.ndarray, corner: tuple[int, int, int], ring: list[int]) -> bool:
    """Whether a corner sticks out, with no other corner inside its triangle."""
    a, b, c = corner
    if _turn(flat, a, b, c) <= 0:
        return False
    ends = [tuple(flat[i]) for i in corner]
    others = (p for p in ring if p not in corner and tuple(flat[p]) not in ends)
    return not any(
        min(_turn(flat, a, b, p), _turn(flat, b, c, p), _turn(flat, c, a, p)) >= 0 for p in others
    )
