"""The Fréchet distance against scipy's matrix square root and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch

from gentok.measure import frechet_distance


def sample(n, width, seed, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=rng, dtype=torch.float64)
    return scale * torch.randn(n, width, generator=rng, dtype=torch.float64) @ mix + mix[0]


def test_equals_the_definition_with_scipy():
    a, b = sample(400, 12, 0), sample(300, 12, 1)
    cov_a, cov_b = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item()
    expected += np.trace(cov_a + cov_b - 2 * scipy.linalg.sqrtm(cov_a @ cov_b)).real
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_fewer_items_than_features():
    a, b = sample(9, 12, 0), sample(7, 12, 1)  # covariances without full rank: no sqrtm
    root_a, root_b = (a - a.mean(0)) / 8**0.5, (b - b.mean(0)) / 6**0.5
    # tr (S_a S_b)^(1/2) is the sum of the singular values of the product of any two roots.
    cross = torch.linalg.matrix_norm(root_a @ root_b.T, "nuc")
    expected = (a.mean(0) - b.mean(0)).square().sum() + root_a.square().sum()
    expected += root_b.square().sum() - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-7)


def test_closed_form_for_scaled_and_shifted_copies():
    a = sample(300, 5, 0)
    shift = torch.tensor([1.0, 0, -2.0, 0, 0.5], dtype=torch.float64)
    centred = a - a.mean(0)
    # N(m, S) against N(m + d, 9 S): |d|^2 + tr(S + 9 S - 2 * 3 S)
    expected = shift.square().sum() + 4 * torch.cov(a.T).trace()
    assert frechet_distance(a, a.mean(0) + 3 * centred + shift) == pytest.approx(expected.item())


def test_metric_like():
    a, b = sample(50, 4, 0), sample(70, 4, 1)
    assert frechet_distance(a, a[torch.randperm(50)]) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) > 0
    assert isinstance(frechet_distance(a[:, :1].float(), b[:, :1].float()), float)


def test_bad_features_are_refused():
    a = torch.zeros(4, 3)
    for wrong in (torch.zeros(4, 2), torch.zeros(1, 3), torch.zeros(3)):
        with pytest.raises(ValueError, match="equal F and N >= 2"):
            frechet_distance(a, wrong)
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(a, torch.full((4, 3), float("nan")))
