"""Flat shapes: signed distances against plain geometry written another way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path
from scipy import ndimage

from gentok.data.world_flat import FLAT


def corners(count: int, radii: tuple[float, ...], first: float) -> Path:
    """Closed polygon with ``count`` corners at equal angles, radii taken in turn."""
    angle = first + 2 * math.pi * np.arange(count) / count
    radius = np.resize(radii, count)
    return Path(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1))


UP = math.pi / 2
CROSS = [(0.92, 0.3), (0.3, 0.3), (0.3, 0.92)]
CROSS = [(sx * x, sy * y) for sx, sy in ((1, 1), (-1, 1), (-1, -1), (1, -1)) for x, y in CROSS]
CROSS = sorted(CROSS, key=lambda p: math.atan2(p[1], p[0]))
POLYGONS = {
    "square": Path([(0.7, 0.7), (-0.7, 0.7), (-0.7, -0.7), (0.7, -0.7)]),
    "triangle": corners(3, (1.0,), UP),
    "hexagon": corners(6, (0.92,), 0.0),
    "star": corners(10, (1.0, 0.45), UP),
    "cross": Path(CROSS),
}
AREAS = {  # in closed form
    "disc": math.pi * 0.85**2,
    "square": 1.4**2,
    "triangle": 3 * math.sqrt(3) / 4,
    "ring": math.pi * (0.92**2 - 0.44**2),
    "bar": math.pi * 0.3**2 + 1.3 * 0.6,
    "cross": 2 * 1.84 * 0.6 - 0.6**2,
    "star": 10 * 0.5 * 0.45 * math.sin(math.pi / 5),
    "hexagon": 1.5 * math.sqrt(3) * 0.92**2,
    "heart": 0.74**2 * (2 + math.pi / 2),
}

AXIS = torch.linspace(-1.2, 1.2, 601, dtype=torch.float64)
STEP = float(AXIS[1] - AXIS[0])
Y, X = torch.meshgrid(AXIS, AXIS, indexing="ij")


@pytest.mark.parametrize("shape", POLYGONS)
def test_inside_agrees_with_point_in_polygon(shape):
    distance = FLAT[shape](X, Y)
    inside = POLYGONS[shape].contains_points(np.stack([X.flatten(), Y.flatten()], 1))
    clear = distance.abs().flatten() > 1e-6
    assert torch.equal((distance < 0).flatten()[clear], torch.from_numpy(inside)[clear])


@pytest.mark.parametrize("shape", FLAT)
def test_distance_agrees_with_a_brute_force_transform(shape):
    """Search for the nearest pixel of the other side; sharp tips fall between pixels."""
    distance = FLAT[shape](X, Y)
    inside = (distance < 0).numpy()
    outer = ndimage.distance_transform_edt(~inside) * STEP
    inner = ndimage.distance_transform_edt(inside) * STEP
    brute = np.where(inside, -inner, outer)
    assert np.abs(brute - distance.numpy()).max() < 2 * STEP


@pytest.mark.parametrize("shape", FLAT)
def test_centre_of_area_is_the_origin_and_the_unit_circle_holds_it(shape):
    # Shares of pixels at the outline, so that the sum is smooth in the outline's place.
    share = (0.5 - FLAT[shape](X, Y) / STEP).clamp(0, 1)
    centre = torch.stack([(share * X).sum(), (share * Y).sum()]) / share.sum()
    assert centre.abs().max() < 1e-4
    assert torch.hypot(X, Y)[FLAT[shape](X, Y) < 0].max() <= 1.0


@pytest.mark.parametrize("shape", AREAS)
def test_area(shape):
    share = (0.5 - FLAT[shape](X, Y) / STEP).clamp(0, 1)
    assert float(share.sum()) * STEP**2 == pytest.approx(AREAS[shape], rel=2e-4)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(sorted(FLAT)),
    *([st.floats(-1.5, 1.5, allow_subnormal=False)] * 4),
)
def test_distance_never_changes_faster_than_the_place(shape, ax, ay, bx, by):
    """A signed distance is 1-Lipschitz; a wrong sign or a missed edge breaks this at once."""
    a, b = torch.tensor([ax, bx], dtype=torch.float64), torch.tensor([ay, by], dtype=torch.float64)
    distance = FLAT[shape](a, b)
    assert abs(float(distance[0] - distance[1])) <= math.hypot(ax - bx, ay - by) + 1e-7
