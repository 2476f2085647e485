"""The Haar transform against PyWavelets and its own algebra."""

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.nn.wavelet import haar2d, inverse_haar2d


def test_bands_equal_pywavelets():
    x = torch.randn(2, 3, 8, 6)
    low, high = haar2d(x)
    ll, (lh, hl, hh) = pywt.dwt2(x.numpy(), "haar")  # its horizontal detail differs along rows
    np.testing.assert_allclose(low, ll, atol=1e-6)
    for ours, theirs in zip(high.chunk(3, dim=1), (lh, hl, hh), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_each_band_answers_its_own_pattern():
    rows = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    patterns = {0: torch.ones(2, 2), 1: rows, 2: rows.T, 3: rows * rows.T}
    for band, pattern in patterns.items():
        low, high = haar2d(pattern[None, None])
        answer = torch.cat([low, high], dim=1).flatten()
        expected = torch.zeros(4).index_fill(0, torch.tensor(band), 2.0)
        assert torch.equal(answer, expected), f"band {band} does not answer its pattern alone"


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_inverse_and_energy(batch, channels, h, w):
    x = torch.randn(batch, channels, 2 * h, 2 * w, dtype=torch.float64)
    low, high = haar2d(x)
    torch.testing.assert_close(inverse_haar2d(low, high), x)
    torch.testing.assert_close(low.square().sum() + high.square().sum(), x.square().sum())


def test_inverse_is_the_transpose():
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    low, high = haar2d(x)
    g_low, g_high = torch.randn_like(low), torch.randn_like(high)
    (gradient,) = torch.autograd.grad((low * g_low).sum() + (high * g_high).sum(), x)
    torch.testing.assert_close(gradient, inverse_haar2d(g_low, g_high))


def test_range_of_the_low_band():
    low, _ = haar2d(torch.ones(1, 1, 2, 2))
    assert low.item() == 2.0


@pytest.mark.parametrize("shape", [(1, 3, 5, 4), (1, 3, 4, 5), (3, 4, 4)])
def test_odd_or_missing_axes_are_refused(shape):
    with pytest.raises(ValueError, match="even H and W"):
        haar2d(torch.zeros(shape))


def test_bands_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="high must be"):
        inverse_haar2d(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
