"""Sliced Wasserstein distance against SciPy's, line by line, and against what is known exactly."""

import math

import pytest
import torch
from scipy.stats import wasserstein_distance

from gentok.measure.fixed import fixed_noise
from gentok.measure.sliced import sliced_wasserstein


def cloud(seed, n=200, d=5):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_each_line_by_scipy():
    a, b = cloud(0), 1.5 * cloud(1) + 0.3
    lines = fixed_noise((5, 16), 3)
    lines = lines / lines.norm(dim=0)
    each = [wasserstein_distance((a @ line).numpy(), (b @ line).numpy()) for line in lines.T]
    assert sliced_wasserstein(a, b, 16, seed=3) == pytest.approx(sum(each) / 16, rel=1e-5)


def test_equal_clouds_in_any_order_and_a_shifted_one():
    a = cloud(2)
    assert sliced_wasserstein(a, a[torch.randperm(len(a))]) == pytest.approx(0, abs=1e-6)
    shift = torch.zeros(5)
    shift[1] = 2.0
    # The mean of |cos| to a fixed direction in five dimensions is 3/8.
    assert sliced_wasserstein(a, a + shift, 20_000) == pytest.approx(2 * 3 / 8, rel=0.02)


def test_one_dimension_needs_one_direction():
    a, b = cloud(3, d=1), cloud(4, d=1) * 3
    expected = float((a.sort(0).values - b.sort(0).values).abs().mean())
    assert sliced_wasserstein(a, b, 1) == pytest.approx(expected) and math.isfinite(expected)


@pytest.mark.parametrize("other", [(199, 5), (200, 4)])
def test_shapes_must_agree(other):
    with pytest.raises(ValueError, match=r"one shape \(n, D\), got \(200, 5\) and"):
        sliced_wasserstein(cloud(0), cloud(1, *other))
    with pytest.raises(ValueError, match="num_directions must be at least 1, got 0"):
        sliced_wasserstein(cloud(0), cloud(1), 0)
