"""Solids: exact signed distances, points on the surface, closed meshes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from gentok.data import SHAPES, SOLID_NAMES, point_cloud, sample_mesh, signed_distance, solid_mesh
from gentok.data.world_solids import distance_gradient, height

place = st.tuples(*[st.floats(-1.5, 1.5, width=32, allow_subnormal=False)] * 3)


@pytest.mark.parametrize("shape", SOLID_NAMES)
def test_surface_points_have_distance_zero_and_a_unit_normal(shape):
    points = point_cloud(shape, 2000, seed=1)
    assert points.shape == (2000, 3) and points.dtype == torch.float32
    assert float(signed_distance(shape, points).abs().max()) < 2e-6
    beside = points + 0.02 * torch.nn.functional.normalize(torch.randn(2000, 3), dim=1)
    slope = distance_gradient(shape, beside).norm(dim=1)
    # Creases and axes have no gradient of length 1, but hardly any point lies on one.
    assert float(((slope - 1).abs() < 1e-4).float().mean()) > 0.995


@pytest.mark.parametrize("shape", SOLID_NAMES)
def test_distance_is_that_to_the_nearest_surface_point(shape):
    surface = cKDTree(point_cloud(shape, 30_000, seed=2).numpy())
    places = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 2.6 - 1.3
    nearest = torch.from_numpy(surface.query(places.numpy())[0]).float()
    error = nearest - signed_distance(shape, places).abs()
    # Points of a cloud are at best as near as the surface, and at worst a gap further.
    assert float(error.min()) > -1e-5 and float(error.max()) < 0.05


@pytest.mark.parametrize("shape", SOLID_NAMES)
def test_solid_stands_on_its_height_inside_the_unit_circle(shape):
    points = point_cloud(shape, 5000)
    assert float(points[:, 2].min()) == pytest.approx(-height(shape), abs=5e-3)
    assert float(points[:, :2].norm(dim=1).max()) <= 1 + 1e-5


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(SOLID_NAMES), place, place)
def test_distance_never_changes_faster_than_the_place(shape, one, other):
    a, b = torch.tensor(one).double(), torch.tensor(other).double()
    change = signed_distance(shape, a) - signed_distance(shape, b)
    assert abs(float(change)) <= float((a - b).norm()) + 1e-7


VOLUMES = {
    "sphere": 4 / 3 * math.pi * 0.85**3,
    "box": 1.4**3,
    "torus": 2 * math.pi**2 * 0.68 * 0.24**2,
    "capsule": math.pi * 0.3**2 * 1.3 + 4 / 3 * math.pi * 0.3**3,
    "cylinder": math.pi * 0.85**2 * 0.8,
    "cone": math.pi * 0.85**2 * 1.7 / 3,
    "star": 10 * 0.5 * 0.45 * math.sin(math.pi / 5) * 0.8,
}


@pytest.mark.parametrize("shape", VOLUMES)
def test_mesh_is_closed_and_holds_the_volume(shape):
    vertices, faces = solid_mesh(shape)
    a, b, c = (vertices[faces[:, i]].double() for i in range(3))
    volume = (a * torch.linalg.cross(b, c)).sum() / 6  # divergence theorem: needs a closed mesh
    assert abs(float(volume)) == pytest.approx(VOLUMES[shape], rel=0.02)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    assert set(edges.unique(dim=0, return_counts=True)[1].tolist()) == {2}


def test_cloud_is_even_over_the_area():
    """On a sphere any cap of height h has the share h / 2r of the points (Archimedes)."""
    points = point_cloud("sphere", 20_000, seed=3) / 0.85
    for cut in (-0.5, 0.0, 0.7):
        for axis in range(3):
            share = float((points[:, axis] > cut).float().mean())
            assert share == pytest.approx((1 - cut) / 2, abs=0.015)


def test_clouds_are_reproducible_and_flat_names_stand_for_solids():
    assert torch.equal(point_cloud("star", 50, 4), point_cloud("star", 50, 4))
    assert not torch.equal(point_cloud("star", 50, 4), point_cloud("star", 50, 5))
    places = torch.rand(20, 3)
    assert torch.equal(signed_distance("disc", places), signed_distance("sphere", places))
    assert all(torch.isfinite(signed_distance(shape, places)).all() for shape in SHAPES)


def test_outline_of_a_solid_is_its_flat_shape():
    """Seen from above a solid covers what its flat shape covers."""
    from gentok.data.world_flat import FLAT

    x, y = torch.rand(2, 4000) * 2.2 - 1.1
    z = torch.linspace(-1, 1, 201)[:, None]
    for shape in SHAPES:
        column = torch.stack(torch.broadcast_tensors(x, y, z), -1)  # (201, 4000, 3)
        covered = (signed_distance(shape, column) < 0).any(0)
        flat = FLAT[shape](x, y)
        clear = flat.abs() > 0.01
        assert torch.equal(covered[clear], (flat < 0)[clear]), shape


def test_sampled_mesh_points_lie_on_their_triangles():
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 5]])
    faces = torch.tensor([[0, 1, 2], [0, 0, 3]])  # the second is empty
    points, normals = sample_mesh(vertices, faces, 500)
    assert float(points[:, 2].abs().max()) == 0 and float(points.sum(1).max()) <= 2 + 1e-5
    assert torch.allclose(normals, torch.tensor([0.0, 0, 1]).expand_as(normals))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: signed_distance("teapot", torch.zeros(1, 3)), "shape must be one of"),
        (lambda: signed_distance("box", torch.zeros(4, 2)), "points must be"),
        (lambda: point_cloud("box", 0), "n must be"),
        (lambda: sample_mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), 5), "area"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
