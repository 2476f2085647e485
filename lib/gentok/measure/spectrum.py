"""Which frequencies an image or an error holds: power spectra and Haar bands.

Shapes: B batch, C channels, H W pixels, R radial bins.
"""

import torch
from torch import Tensor

from gentok.measure.images import check_pair
from gentok.nn.wavelet import BANDS, haar2d

OCTAVES = (0.0, 1 / 16, 1 / 8, 1 / 4)  # cycles per pixel
FLOOR = 1e-12  # power below which a bin counts as empty, so that a logarithm stays finite


def power_spectrum(x: Tensor) -> Tensor:
    """Two-dimensional power spectrum |FFT|^2 / (H W), the mean over images and channels.

    No window: one would take away from the highest frequencies, those of interest here. With this
    factor the mean over all bins is the mean square of ``x`` (Parseval), and white noise of
    variance v has power v in every bin.

    Args:
        x: images, or residuals of images, (B, C, H, W).

    Returns:
        (H, W), squared pixel units; bin (i, j) has the frequencies ``torch.fft.fftfreq`` gives.

    Raises:
        ValueError: if ``x`` has not four axes.
    """
    if x.ndim != 4:
        raise ValueError(f"x must be images (B, C, H, W), got {tuple(x.shape)}")
    x = x.detach().float()
    return torch.fft.fft2(x, norm="ortho").abs().square().mean(dim=(0, 1))


def radial_power_spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Power against spatial frequency: the mean of the 2-D spectrum over each ring.

    Rings are 1/N wide, N the shorter side, and centred on multiples of 1/N. They reach to the
    corner of the spectrum at 0.707 cycles per pixel: no bin is left out.

    Args:
        x: images, or residuals of images, (B, C, H, W).

    Returns:
        frequencies: (R,), cycles per pixel, from 0 (the mean of the image) upwards.
        power: (R,), squared pixel units, mean over images, channels and directions.
    """
    power = power_spectrum(x)
    n = min(power.shape)
    fy = torch.fft.fftfreq(power.shape[0], device=x.device)
    fx = torch.fft.fftfreq(power.shape[1], device=x.device)
    ring = torch.hypot(fy[:, None], fx[None, :]).mul(n).round().long().flatten()  # (H W,)
    total = torch.bincount(ring, power.flatten().double())
    count = torch.bincount(ring)
    radial = (total / count).float()
    return torch.arange(len(radial), device=x.device) / n, radial


def octave_power(x: Tensor, edges: tuple[float, ...] = OCTAVES) -> Tensor:
    """How much of the mean square lies in each band of frequencies, the mean value included.

    Args:
        x: images, or residuals of images, (B, C, H, W).
        edges: upper ends of all bands but the last, rising, cycles per pixel. The first band of
            the default, up to 0, is the mean of each image and channel: a colour cast.

    Returns:
        (len(edges) + 1,), squared pixel units; their sum is the mean square of ``x`` (Parseval).
    """
    power = power_spectrum(x)
    rows, columns = (torch.fft.fftfreq(n, device=x.device) for n in power.shape)
    radius = torch.hypot(rows[:, None], columns[None])  # (H, W), cycles per pixel
    band = torch.bucketize(radius, torch.tensor(edges, device=x.device))
    return torch.bincount(band.flatten(), power.flatten(), len(edges) + 1) / power.numel()


def spectrum_distance(x: Tensor, y: Tensor, above: float = 0.0) -> float:
    """Mean absolute difference of two radial spectra in decades, |log10(P_x / P_y)|.

    Rings count equally, so high frequencies weigh as much as low ones, small as their power is.

    Args:
        x, y: two sets of images of one size, (B, C, H, W) and (B', C, H, W); no pairs needed.
        above: compare only frequencies above this many cycles per pixel: 0 leaves out the mean
            alone, 0.25 keeps the upper half of the frequencies along an axis.

    Returns:
        decades; 0 for equal spectra, 1 where powers differ by a factor of ten.

    Raises:
        ValueError: if the sets differ in channels or size, or no frequency lies above ``above``.
    """
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"x and y must agree in channels and size, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    frequencies, power_x = radial_power_spectrum(x)
    _, power_y = radial_power_spectrum(y)
    keep = frequencies > above
    if above < 0 or not keep.any():
        raise ValueError(f"above must be in [0, {float(frequencies[-1]):.3f}), got {above}")
    decades = torch.log10(power_x.clamp_min(FLOOR)) - torch.log10(power_y.clamp_min(FLOOR))
    return float(decades[keep].abs().mean())


def band_energy(x: Tensor, levels: int = 1) -> dict[str, float]:
    """Mean square of the orthonormal Haar coefficients of each band.

    Args:
        x: images, (B, C, H, W), H and W multiples of 2^levels.
        levels: how often the low band is split again.

    Returns:
        squared pixel units: ``LH``, ``HL``, ``HH`` (level 1), ``high`` (mean of these three),
        ``LH2``, ``HL2``, ... for each further level, and ``LL`` of the last level. At one level
        (LL + LH + HL + HH) / 4 = (LL + 3 high) / 4 is the mean square of ``x``.

    Raises:
        ValueError: if ``levels`` < 1, or the image cannot be halved that often.
    """
    if levels < 1:
        raise ValueError(f"levels must be 1 or more, got {levels}")
    energy: dict[str, float] = {}
    low = x.detach()
    for level in range(1, levels + 1):
        low, high = haar2d(low)
        suffix = "" if level == 1 else str(level)
        for name, band in zip(BANDS[1:], high.chunk(3, dim=1), strict=True):
            energy[name + suffix] = float(band.square().mean())
        if level == 1:
            energy["high"] = float(high.square().mean())
    return {"LL": float(low.square().mean()), **energy}


def band_errors(x: Tensor, x_hat: Tensor, levels: int = 1) -> dict[str, float]:
    """Mean squared error of a reconstruction in each Haar band (FA-VAE's low and high loss).

    The transform is linear and keeps energy, so this is :func:`band_energy` of the residual and
    splits the pixel error exactly. Clamp ``x_hat`` first if the model's output is clamped.

    Args:
        x, x_hat: images and reconstructions, (B, C, H, W).
        levels: as in :func:`band_energy`, with the same keys returned.

    Raises:
        ValueError: if the shapes differ, and as :func:`band_energy`.
    """
    check_pair(x, x_hat)
    return band_energy(x - x_hat, levels)
