"""Noise schedules of denoising diffusion, and the steps that a shorter chain visits.

Steps are counted as in the papers and unlike the flow time of this book: t = 0 is nearly data,
t = T - 1 nearly noise.

Shapes: T training steps. Schedules are float64: differences of values close to 1 matter.
"""

import math

import torch
from torch import Tensor


def linear_betas(num_steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """(T,) variances of the noise added at each step, evenly spaced (Ho et al. 2020, section 4)."""
    _check_steps(num_steps)
    return torch.linspace(start, end, num_steps, dtype=torch.float64)


def scaled_linear_betas(num_steps: int = 1000, start: float = 85e-5, end: float = 0.012) -> Tensor:
    """(T,) betas whose square roots are evenly spaced (LDM; DDMI takes 0.0015 to 0.0195)."""
    _check_steps(num_steps)
    return torch.linspace(start**0.5, end**0.5, num_steps, dtype=torch.float64).square()


def cosine_betas(num_steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """(T,) betas under which the share of signal falls as a squared cosine.

    Nichol and Dhariwal 2021 (arXiv:2102.09672), equation 17. ``largest`` bounds the last betas,
    which would reach 1.
    """
    _check_steps(num_steps)
    u = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    signal = torch.cos((u + offset) / (1 + offset) * math.pi / 2).square()
    return (1 - signal[1:] / signal[:-1]).clamp_max(largest)


def even_steps(num_steps: int, num_kept: int) -> list[int]:
    """``num_kept`` steps from T - 1 down to 0, both included, evenly spaced and rounded.

    The grid of improved DDPM's respacing (MAR's heads, ViTok): round(i (T - 1) / (S - 1)).

    Raises:
        ValueError: if ``num_kept`` is not in [1, T].
    """
    _check_kept(num_steps, num_kept)
    if num_kept == 1:
        return [num_steps - 1]
    stride = (num_steps - 1) / (num_kept - 1)
    return [round(i * stride) for i in range(num_kept)][::-1]


def last_steps(num_steps: int, num_kept: int) -> list[int]:
    """The last step of each of ``num_kept`` equal stretches, from T - 1 downwards.

    DDMI's grid: linspace(-1, T - 1, S + 1) without its -1 (the clean sample), cut to integers.

    Raises:
        ValueError: if ``num_kept`` is not in [1, T].
    """
    _check_kept(num_steps, num_kept)
    return [i * num_steps // num_kept - 1 for i in range(num_kept, 0, -1)]


def _check_steps(num_steps: int) -> None:
    if num_steps < 2:
        raise ValueError(f"num_steps must be at least 2, got {num_steps}")


def _check_kept(num_steps: int, num_kept: int) -> None:
    if not 1 <= num_kept <= num_steps:
        raise ValueError(f"num_kept must lie in [1, {num_steps}], got {num_kept}")
