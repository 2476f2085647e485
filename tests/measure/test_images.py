"""PSNR and SSIM against scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gentok.measure import psnr, ssim


def pair(height=20, width=17):
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(3, 3, height, width, generator=rng, dtype=torch.float64) * 2 - 1
    noise = torch.randn(x.shape, generator=rng, dtype=torch.float64)
    return x, (x + noise * torch.tensor([0.01, 0.1, 0.5])[:, None, None, None]).clamp(-1, 1)


def test_psnr_equals_skimage():
    x, y = pair()
    expected = [
        peak_signal_noise_ratio(a, b, data_range=2)
        for a, b in zip(x.numpy(), y.numpy(), strict=True)
    ]
    np.testing.assert_allclose(psnr(x, y), expected, rtol=1e-12)


@pytest.mark.parametrize("size", [(20, 17), (11, 11)])
def test_ssim_equals_skimage(size):
    x, y = pair(*size)
    expected = [
        structural_similarity(
            a,
            b,
            data_range=2,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(x.numpy(), y.numpy(), strict=True)
    ]
    np.testing.assert_allclose(ssim(x, y), expected, rtol=1e-9)


def test_single_precision_is_enough():
    x, y = pair()
    torch.testing.assert_close(ssim(x.float(), y.float()).double(), ssim(x, y), atol=1e-5, rtol=0)


def test_equal_images():
    x, _ = pair()
    assert psnr(x, x).isinf().all()
    torch.testing.assert_close(ssim(x, x), torch.ones(3, dtype=torch.float64))


def test_ssim_is_symmetric_and_its_gradient_points_at_the_image():
    x, y = pair()
    torch.testing.assert_close(ssim(x, y), ssim(y, x))
    y.requires_grad_()
    (gradient,) = torch.autograd.grad(ssim(x, y).sum(), y)
    assert (ssim(x, y.detach() + 1e-3 * gradient) > ssim(x, y)).all(), "a step uphill lowers SSIM"


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_bad_shapes_are_refused(measure):
    with pytest.raises(ValueError, match="one shape"):
        measure(torch.zeros(1, 3, 16, 16), torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match="one shape"):
        measure(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16))


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(torch.zeros(1, 3, 10, 16), torch.zeros(1, 3, 10, 16))


def test_similarity_does_not_depend_on_autocast():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    y = x + 0.1 * torch.randn_like(x)
    plain = ssim(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ssim(x, y), plain)
