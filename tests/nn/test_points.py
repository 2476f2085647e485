"""Sampling, neighbours and interpolation against brute force and scipy's k-d tree."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from gentok.nn.points import (
    distances,
    farthest_points,
    group,
    interpolate,
    nearest_neighbours,
    take_points,
)

cloud = st.tuples(st.integers(1, 3), st.integers(4, 40), st.integers(0, 10_000))


def random_cloud(b: int, p: int, seed: int) -> torch.Tensor:
    return torch.randn(b, p, 3, generator=torch.Generator().manual_seed(seed))


@given(cloud, st.data())
@settings(max_examples=30, deadline=None)
def test_farthest_points_are_a_brute_force_choice(sizes, data):
    points = random_cloud(*sizes)
    n = data.draw(st.integers(1, sizes[1]))
    start = data.draw(st.integers(0, sizes[1] - 1))
    chosen = farthest_points(points, n, start)
    for x, row in zip(points, chosen.tolist(), strict=True):
        expected = [start]
        while len(expected) < n:
            gaps = [min(float((q - x[j]).square().sum()) for j in expected) for q in x]
            expected.append(max(range(len(x)), key=gaps.__getitem__))
        assert row == expected


def test_farthest_points_are_distinct_and_start_at_zero():
    chosen = farthest_points(random_cloud(2, 50, 0), 50)
    assert (chosen[:, 0] == 0).all()
    assert torch.equal(chosen.sort(-1).values, torch.arange(50).expand(2, -1))


@given(cloud, st.data())
@settings(max_examples=30, deadline=None)
def test_neighbours_are_those_of_a_kd_tree(sizes, data):
    points, query = random_cloud(*sizes), random_cloud(sizes[0], 5, sizes[2] + 1)
    k = data.draw(st.integers(1, sizes[1]))
    index = nearest_neighbours(query, points, k)
    for x, q, row in zip(points, query, index, strict=True):
        _, expected = cKDTree(x.double()).query(q.double(), k=list(range(1, k + 1)))
        assert row.tolist() == expected.tolist()


def test_patches_hold_their_centre_first_and_are_relative_to_it():
    points = random_cloud(2, 64, 3)
    patches = group(points, 16, 8)
    assert patches.points.shape == (2, 16, 8, 3) and patches.centres.shape == (2, 16, 3)
    assert torch.equal(patches.index[..., 0], farthest_points(points, 16))
    assert not patches.points[:, :, 0].any()
    back = patches.points + patches.centres[:, :, None]
    torch.testing.assert_close(back, take_points(points, patches.index))


def test_small_distances_survive_far_from_the_origin():
    """The usual expansion |a|^2 - 2ab + |b|^2 would call these two points one."""
    a = torch.tensor([[[100.0, 0.0, 0.0]]]).expand(1, 30, 3)
    assert float(distances(a + torch.tensor([0.0, 1e-3, 0.0]), a).min()) == pytest.approx(1e-3)


def test_interpolation_is_the_weighted_mean_of_three():
    known, query = random_cloud(2, 12, 0), random_cloud(2, 7, 1)
    features = torch.randn(2, 12, 5)
    out = interpolate(features, known, query)
    for b in range(2):
        gaps, index = cKDTree(known[b].double()).query(query[b].double(), k=3)
        weight = 1 / torch.from_numpy(gaps).square()
        weight = (weight / weight.sum(-1, keepdim=True)).float()
        expected = (weight[..., None] * features[b][torch.from_numpy(index)]).sum(1)
        torch.testing.assert_close(out[b], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1.0])
def test_interpolation_does_not_depend_on_the_unit(scale):
    known, query = random_cloud(1, 12, 0).double(), random_cloud(1, 7, 1).double()
    features = torch.randn(1, 12, 5, dtype=torch.float64)
    gaps, index = cKDTree(known[0]).query(query[0], k=3)
    weight = torch.from_numpy(1 / gaps**2)
    expected = (weight / weight.sum(-1, keepdim=True))[..., None] * features[0][index]
    out = interpolate(features, scale * known, scale * query)[0]
    torch.testing.assert_close(out, expected.sum(1), rtol=2e-3, atol=2e-3)
    at_home = interpolate(features, scale * known, scale * known)
    torch.testing.assert_close(at_home, features, rtol=1e-3, atol=1e-3)


def test_interpolation_in_clouds_of_size_one_is_bit_for_bit_what_it_was():
    known, query, features = random_cloud(2, 64, 0), random_cloud(2, 200, 1), torch.randn(2, 64, 5)
    gaps = distances(query, known).topk(3, dim=-1, largest=False)
    square = (take_points(known, gaps.indices) - query[:, :, None]).square().sum(-1)
    weight = 1 / (square + 1e-8)
    weight = weight / weight.sum(-1, keepdim=True)
    before = (weight[..., None] * take_points(features, gaps.indices)).sum(2)
    assert torch.equal(interpolate(features, known, query), before)


def test_interpolation_between_points_that_coincide_is_their_mean():
    features = torch.tensor([[[1.0], [2.0], [6.0]]])
    mean = interpolate(features, torch.ones(1, 3, 3), torch.ones(1, 1, 3))
    assert float(mean) == pytest.approx(3.0)


def test_interpolation_returns_known_features_and_passes_gradients():
    known, features = random_cloud(1, 9, 2), torch.randn(1, 9, 4, requires_grad=True)
    out = interpolate(features, known, known)
    torch.testing.assert_close(out, features, rtol=1e-4, atol=1e-4)
    out.sum().backward()
    assert features.grad.abs().sum() > 0
    flat = interpolate(torch.full((1, 9, 1), 2.5), known, random_cloud(1, 30, 5))
    torch.testing.assert_close(flat, torch.full((1, 30, 1), 2.5))


def test_all_run_on_the_meta_device():
    points = torch.rand(2, 30, 3, device="meta")
    assert group(points, 6, 4).points.shape == (2, 6, 4, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: farthest_points(x, 11), "1 <= n <= 10"),
        (lambda x: farthest_points(x, 3, start=10), "start"),
        (lambda x: farthest_points(x[..., :2], 3), r"points must be \(B, P, 3\)"),
        (lambda x: nearest_neighbours(x, x, 0), r"k must lie in 1..10, got 0"),
        (lambda x: nearest_neighbours(x[0], x, 2), r"points must be \(B, P, 3\)"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.rand(1, 10, 3))
