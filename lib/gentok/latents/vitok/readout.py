"""What is measured of trained tokenizers: quality, floats, and what explains the one by the other.

Shapes: N images of 3 x H x W in [-1, 1]; K cells of a sweep.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gentok.latents.vitok.model import ViTok
from gentok.measure.images import psnr
from gentok.measure.spectrum import band_errors, octave_power
from gentok.nn.latents import evaluating

ROWS = 128  # images at a time


@torch.no_grad()
def reconstruct(model: nn.Module, x: Tensor) -> Tensor:
    """There and back by the posterior means, (N, 3, H, W), cut to [-1, 1]."""
    with evaluating(model):
        parts = [model.decode(model.encode(part)) for part in x.split(ROWS)]
    return torch.cat(parts).clamp(-1, 1)


def quality(x: Tensor, y: Tensor) -> dict[str, float]:
    """How near reconstructions y come to pictures x, both (N, 3, H, W) in [-1, 1].

    Returns:
        ``psnr``: dB, of the squared error pooled over all images, as the public code takes it;
        ``each``: the mean of the images' own PSNRs, which is higher, since easy pictures weigh as
        much as hard ones; ``mse``; ``high_mse`` of the high Haar bands; ``detail``: power of y
        above a quarter cycle a pixel over that of x, 1 where all detail is drawn, right or wrong.
    """
    mse = float((x - y).square().mean())
    return {
        "psnr": 10 * math.log10(4 / max(mse, 1e-12)),
        "each": float(psnr(x, y).mean()),
        "mse": mse,
        "high_mse": band_errors(x, y)["high"],
        "detail": float(octave_power(y)[-1] / octave_power(x)[-1]),
    }


def explained(values: Sequence[float], by: Sequence[float]) -> float:
    """R^2 of a straight line through K points: the share of their variance that it explains.

    Raises:
        ValueError: if the numbers differ in length or there are fewer than three.
    """
    if len(values) != len(by) or len(values) < 3:
        raise ValueError(f"need three points or more, as many each, got {len(values)}, {len(by)}")
    rows = torch.tensor([list(by), list(values)], dtype=torch.float64)
    spread = rows.std(1)
    if not float(spread.min()) > 0:
        return 0.0  # what never changes explains nothing
    return float(torch.corrcoef(rows)[0, 1].square())


def slope(values: Sequence[float], by: Sequence[float]) -> float:
    """Slope of the least-squares line through K points, in units of values a unit of ``by``."""
    y, x = (torch.tensor(list(row), dtype=torch.float64) for row in (values, by))
    x = x - x.mean()
    return float((x * y).sum() / x.square().sum())


def change(first: ViTok, second: ViTok) -> float:
    """Largest difference of any weight up to the code between two tokenizers of one size."""
    sides = [nn.ModuleList(model.encoder_parts()).parameters() for model in (first, second)]
    pairs = zip(*sides, strict=True)
    return max(float((p.detach() - q.detach()).abs().max()) for p, q in pairs)
