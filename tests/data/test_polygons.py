"""Polygons as triangles: areas and directions are those of the polygon, dents included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data.polygons import triangulate


def normals(corners, triangles):
    a, b, c = (corners[[t[i] for t in triangles]] for i in range(3))
    return np.cross(b - a, c - a) / 2


def shoelace(corners):
    """The area vector of a polygon, by the formula that needs no triangles."""
    return np.cross(corners, np.roll(corners, -1, 0)).sum(0) / 2


L_SHAPE = np.array([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]])


@pytest.mark.parametrize("start", range(6))
@pytest.mark.parametrize("reverse", [False, True])
def test_an_l_has_area_three_from_whichever_corner(start, reverse):
    corners = np.c_[np.roll(L_SHAPE, start, 0), np.zeros(6)]
    corners = corners[::-1] if reverse else corners
    found = normals(corners, triangulate(corners))
    assert len(found) == 4 and np.linalg.norm(found, axis=1).sum() == 3
    assert (np.sign(found[:, 2]) == (-1 if reverse else 1)).all(), "a triangle faces backwards"


def test_convex_polygons_are_fans():
    assert triangulate(np.array([[0, 0, 0], [4, 0, 0], [4, 2, 0], [0, 2, 0]])) == [
        (0, 1, 2), (0, 2, 3),
    ]  # fmt: skip


@given(st.integers(3, 12), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_stars_in_any_plane(n, seed):
    """A ring of corners at random distances from its middle: simple, seldom convex."""
    rng = np.random.default_rng(seed)
    angle = 2 * math.pi * (np.arange(n) + rng.uniform(0, 0.8, n)) / n
    radius = rng.uniform(0.2, 2, n)
    flat = np.c_[radius * np.cos(angle), radius * np.sin(angle), np.zeros(n)]
    turned = flat @ np.linalg.qr(rng.normal(size=(3, 3)))[0].T + rng.normal(size=3)
    found = normals(turned, triangulate(turned))
    whole = shoelace(turned)
    np.testing.assert_allclose(found.sum(0), whole, atol=1e-9)
    if n > 3 or radius.min() > 0:
        area = np.linalg.norm(whole)
        assert np.linalg.norm(found, axis=1).sum() == pytest.approx(area, rel=1e-9)


def test_two_corners_are_no_polygon():
    with pytest.raises(ValueError, match="three corners"):
        triangulate(np.zeros((2, 3)))
