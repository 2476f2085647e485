"""How far a reconstruction is from its image: PSNR and SSIM.

Shapes: B batch, C channels, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.nn.precision import full_precision

SIGMA = 1.5  # pixels, width of SSIM's Gaussian window (Wang et al. 2004, 3.B)
RADIUS = 5  # the window is 11 x 11
K1, K2 = 0.01, 0.03


def check_pair(x: Tensor, y: Tensor) -> None:
    """Refuse images that are not (B, C, H, W) or whose shapes differ.

    Raises:
        ValueError: names both shapes.
    """
    if x.ndim != 4 or x.shape != y.shape:
        raise ValueError(
            "x and y must be images (B, C, H, W) of one shape, "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )


def psnr(x: Tensor, y: Tensor, data_range: float = 2.0) -> Tensor:
    """Peak signal-to-noise ratio, 10 log10(range^2 / MSE).

    Args:
        x, y: images, (B, C, H, W).
        data_range: largest minus smallest possible value; 2 for images in [-1, 1].

    Returns:
        (B,), decibels, higher is closer; infinity where the images are equal.

    Raises:
        ValueError: if the shapes are not those of two image batches.
    """
    check_pair(x, y)
    mse = (x - y).square().mean(dim=(1, 2, 3))  # (B,)
    return 10 * torch.log10(data_range**2 / mse)


def ssim(x: Tensor, y: Tensor, data_range: float = 2.0) -> Tensor:
    """Structural similarity (Wang et al. 2004, equation 13), the mean over positions and channels.

    Local means, variances and covariance come from an 11 x 11 Gaussian window, sigma 1.5 pixels. As
    in the original, only windows that lie inside the image count.

    Args:
        x, y: images, (B, C, H, W), H and W at least 11.
        data_range: largest minus smallest possible value; 2 for images in [-1, 1].

    Returns:
        (B,), at most 1 (equal images). Differentiable in both images.

    Raises:
        ValueError: if the shapes are not those of two image batches of at least 11 x 11 pixels.
    """
    check_pair(x, y)
    if min(x.shape[-2:]) < 2 * RADIUS + 1:
        raise ValueError(f"ssim needs images of at least 11 x 11 pixels, got {tuple(x.shape)}")
    mean_x, mean_y = _blur(x), _blur(y)  # (B, C, H - 10, W - 10)
    var_x = _blur(x * x) - mean_x * mean_x
    var_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    """Gaussian mean of each window inside the image, (B, C, H, W) -> (B, C, H - 10, W - 10)."""
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype, device=x.device)
    window = torch.softmax(-0.5 * (offsets / SIGMA) ** 2, dim=0)  # a Gaussian that sums to 1
    flat = x.flatten(0, 1)[:, None]  # (B C, 1, H, W): every channel alone
    with full_precision(flat):  # variances are small differences of such means
        flat = F.conv2d(F.conv2d(flat, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return flat.view(*x.shape[:2], *flat.shape[-2:])
