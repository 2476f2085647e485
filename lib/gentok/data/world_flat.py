"""Exact signed distances of the ten flat shapes of the procedural world.

Every shape fits the unit circle and has its centre of area at the origin; x points right and y up.
A signed distance is negative inside, 0 on the outline, positive outside, and its gradient has
length 1 wherever the nearest point of the outline is unique.

Shapes of tensors: any; ``x`` and ``y`` broadcast against each other.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]
TINY = 1e-16  # keeps the gradient of a square root finite at 0; moves a distance by at most 1e-8


def length(*parts: Tensor) -> Tensor:
    """Euclidean length of the vector with these coordinates; its gradient at 0 is 0."""
    total = parts[0] * parts[0]
    for part in parts[1:]:
        total = torch.addcmul(total, part, part)
    return total.clamp_min_(TINY).sqrt_()


def to_segment(x: Tensor, y: Tensor, a: tuple[float, float], b: tuple[float, float]) -> Tensor:
    """Unsigned distance to the segment from a to b."""
    ex, ey = b[0] - a[0], b[1] - a[1]
    dx, dy = x - a[0], y - a[1]
    h = ((dx * ex + dy * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0)  # nearest place on the segment
    return length(dx - h * ex, dy - h * ey)


def beside_line(x: Tensor, y: Tensor, a: tuple[float, float], b: tuple[float, float]) -> Tensor:
    """Signed distance to the line through a and b, positive on its right-hand side."""
    ex, ey = b[0] - a[0], b[1] - a[1]
    return ((x - a[0]) * ey - (y - a[1]) * ex) / math.hypot(ex, ey)


def fold(x: Tensor, y: Tensor, sides: int) -> tuple[Tensor, Tensor]:
    """Reflect the plane into the wedge 0 <= angle <= pi / sides.

    A shape with ``sides`` mirror lines looks the same in all its 2 * sides wedges, so the distance
    to its outline is the distance to the piece of outline in one wedge.
    """
    sector = 2 * math.pi / sides
    angle = torch.atan2(y, x)
    angle = (angle - sector * torch.round(angle / sector)).abs()
    radius = length(x, y)
    return radius * torch.cos(angle), radius * torch.sin(angle)


def disc(x: Tensor, y: Tensor, radius: float = 0.85) -> Tensor:
    return length(x, y) - radius


def regular(x: Tensor, y: Tensor, sides: int, radius: float) -> Tensor:
    """Regular polygon with a corner at angle 0 and circumscribed radius ``radius``."""
    half = math.pi / sides
    a, b = (radius, 0.0), (radius * math.cos(half) ** 2, radius * math.cos(half) * math.sin(half))
    x, y = fold(x, y, sides)
    return to_segment(x, y, a, b).copysign(beside_line(x, y, a, b))


def square(x: Tensor, y: Tensor, half: float = 0.7) -> Tensor:
    qx, qy = x.abs() - half, y.abs() - half
    return length(qx.clamp_min(0), qy.clamp_min(0)) + torch.maximum(qx, qy).clamp_max(0)


def triangle(x: Tensor, y: Tensor) -> Tensor:
    return regular(y, x, sides=3, radius=1.0)  # swapped axes: the corner points up


def hexagon(x: Tensor, y: Tensor) -> Tensor:
    return regular(x, y, sides=6, radius=0.92)


def star(x: Tensor, y: Tensor, inner: float = 0.45) -> Tensor:
    half = math.pi / 5
    a, b = (1.0, 0.0), (inner * math.cos(half), inner * math.sin(half))
    x, y = fold(y, x, sides=5)
    return to_segment(x, y, a, b).copysign(beside_line(x, y, a, b))


def cross(x: Tensor, y: Tensor, arm: float = 0.92, half: float = 0.3) -> Tensor:
    x, y = x.abs(), y.abs()
    x, y = torch.maximum(x, y), torch.minimum(x, y)  # the four mirrors of a square
    end = to_segment(x, y, (arm, 0.0), (arm, half))
    flank = to_segment(x, y, (half, half), (arm, half))
    return torch.minimum(end, flank).copysign(torch.maximum(x - arm, y - half))


def ring(x: Tensor, y: Tensor, radius: float = 0.68, half: float = 0.24) -> Tensor:
    return (length(x, y) - radius).abs() - half


def bar(x: Tensor, y: Tensor, reach: float = 0.65, half: float = 0.3) -> Tensor:
    """A rod with round ends along x."""
    return length(x - x.clamp(-reach, reach), y) - half


HEART = 0.74  # half diagonal t of the heart's square
# Two half discs of area pi t^2 / 4 at height t/2 + 2t/(3 pi), a square of area 2 t^2 at 0.
HEART_CENTRE = HEART * (math.pi / 4 + 1 / 3) / (2 + math.pi / 2)


def heart(x: Tensor, y: Tensor) -> Tensor:
    """A square on its corner (half diagonal t) with a half disc on each upper side."""
    t = HEART
    x, y = x.abs(), y + HEART_CENTRE
    cx, cy = x - t / 2, y - t / 2  # seen from the centre of the right half disc
    arc = (length(cx, cy) - t / math.sqrt(2)).abs()
    corner = length(x, y - t)  # the notch; the arc's other end lies on the straight side
    round_part = torch.where(cx + cy >= 0, arc, corner)
    distance = torch.minimum(round_part, to_segment(x, y, (t, 0.0), (0.0, -t)))
    inside = (x + y.abs() < t) | (length(cx, cy) < t / math.sqrt(2))
    return torch.where(inside, -distance, distance)


MOON, BITE, BITE_AT = 0.798, 0.64, 0.46  # radius of the disc, of the disc cut away, and its centre
CORNER_X = (MOON**2 - BITE**2 + BITE_AT**2) / (2 * BITE_AT)
CORNER_Y = math.sqrt(MOON**2 - CORNER_X**2)


def _segment_moments(radius: float, half_angle: float) -> tuple[float, float]:
    """Area of a circular segment, and area times its centroid's distance from the centre."""
    area = radius**2 * (half_angle - math.sin(half_angle) * math.cos(half_angle))
    return area, 2 / 3 * (radius * math.sin(half_angle)) ** 3


def _moon_centre() -> float:
    """x of the centre of area of disc minus lens; the lens is two circular segments."""
    outer = _segment_moments(MOON, math.acos(CORNER_X / MOON))
    inner = _segment_moments(BITE, math.acos((BITE_AT - CORNER_X) / BITE))
    lens_area = outer[0] + inner[0]
    lens_moment = outer[1] + BITE_AT * inner[0] - inner[1]
    return -lens_moment / (math.pi * MOON**2 - lens_area)


MOON_CENTRE = _moon_centre()


def moon(x: Tensor, y: Tensor) -> Tensor:
    """A disc without a smaller disc to its right: a crescent."""
    x, y = x + MOON_CENTRE, y.abs()
    outer, inner = length(x, y) - MOON, length(x - BITE_AT, y) - BITE
    # A circle's nearest point is on the outline only if it lies on the kept side of the corner.
    keeps_outer = CORNER_Y * x - CORNER_X * y <= 0
    keeps_inner = CORNER_Y * (x - BITE_AT) - (CORNER_X - BITE_AT) * y <= 0
    distance = length(x - CORNER_X, y - CORNER_Y)
    distance = torch.where(keeps_outer, torch.minimum(distance, outer.abs()), distance)
    distance = torch.where(keeps_inner, torch.minimum(distance, inner.abs()), distance)
    inside = (outer < 0) & (inner > 0)
    return torch.where(inside, -distance, distance)


FLAT: dict[str, Distance] = {
    "disc": disc,
    "square": square,
    "triangle": triangle,
    "ring": ring,
    "bar": bar,
    "cross": cross,
    "star": star,
    "hexagon": hexagon,
    "heart": heart,
    "moon": moon,
}
