"""Chamfer distance against scipy's k-d tree and against the definition by all pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from gentok.measure import chamfer_distance


def by_all_pairs(a, b):
    gaps = (a[:, :, None] - b[:, None]).square().sum(-1)  # (B, P, Q)
    return gaps.amin(2).mean(1) + gaps.amin(1).mean(1)


@given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_equals_scipy(b, p, q, seed):
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.randn(b, p, 3, generator=rng), torch.randn(b, q, 3, generator=rng)
    for one, other, value in zip(x, y, chamfer_distance(x, y), strict=True):
        there, _ = cKDTree(other.double()).query(one.double())
        back, _ = cKDTree(one.double()).query(other.double())
        expected = float((there**2).mean() + (back**2).mean())
        assert float(value) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_gradient_is_that_of_the_definition():
    torch.manual_seed(0)
    a, b = torch.randn(3, 9, 3, requires_grad=True), torch.randn(3, 12, 3, requires_grad=True)
    ours = torch.autograd.grad(chamfer_distance(a, b).sum(), (a, b))
    theirs = torch.autograd.grad(by_all_pairs(a, b).sum(), (a, b))
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right)


def test_is_squared_symmetric_and_blind_to_order():
    torch.manual_seed(1)
    a, b = torch.randn(2, 8, 3), torch.randn(2, 8, 3)
    value = chamfer_distance(a, b)
    torch.testing.assert_close(chamfer_distance(b, a), value)
    torch.testing.assert_close(chamfer_distance(a.flip(1), b.roll(3, 1)), value)
    torch.testing.assert_close(chamfer_distance(3 * a, 3 * b), 9 * value)
    assert not chamfer_distance(a, a.flip(1)).any()


def test_both_directions_count_in_full():
    """Two points at distances 1 and 3 from one: means 5 and 1, summed and not halved."""
    a = torch.tensor([[[1.0, 0, 0], [3.0, 0, 0]]])
    assert float(chamfer_distance(a, torch.zeros(1, 1, 3))) == pytest.approx(5 + 1)


def test_bad_input():
    with pytest.raises(ValueError, match="need"):
        chamfer_distance(torch.rand(2, 4, 3), torch.rand(3, 4, 3))
    with pytest.raises(ValueError, match="a set is empty"):
        chamfer_distance(torch.rand(2, 0, 3), torch.rand(2, 4, 3))
