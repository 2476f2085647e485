"""Polygons as triangles: areas and directions are those of the polygon, dents included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data.polygons import Surface, triangulate


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


@settings(max_examples=200)
@given(st.lists(st.integers(3, 7), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_many_polygons_are_cut_as_each_alone(sizes, seed):
    """On a coarse grid, so that flat, empty and crossing ones come up as well."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(-2, 3, (12, 3)).astype(float)
    rings = [rng.permutation(12)[:size] for size in sizes]
    surface = Surface(corners, np.array(sizes), np.concatenate(rings))
    each = [ring[np.array(triangulate(corners[ring]))] for ring in rings]
    assert surface.triangles().tolist() == np.concatenate(each).tolist()


def test_a_concave_polygon_of_very_many_corners_is_refused():
    angle = np.arange(1002) * 2 * np.pi / 1002
    star = np.c_[np.cos(angle), np.sin(angle), 0 * angle] * (1 + np.arange(1002)[:, None] % 2)
    with pytest.raises(ValueError, match="a concave polygon may have 1000 corners, got 1002"):
        triangulate(star)
    assert len(triangulate(star[::2])) == 499
