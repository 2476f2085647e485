"""Diffusion by noise level: preconditioning, training levels and samplers of EDM.

Karras et al. 2022 (arXiv:2206.00364), table 1 (column "Ours"), algorithms 1 and 2. A noisy sample
is x + sigma eps; sigma takes the place of time and falls from sigma_max to 0.

Shapes: B batch; the rest of a sample's axes are arbitrary; sigma is (B,).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gentok.process.flow import expand


@dataclass(frozen=True)
class Preconditioner:
    """Turns a network F of unit-sized inputs and targets into a denoiser D.

    Attributes:
        sigma_data: standard deviation of the data (0.5 in the paper; 0.9 in MicroDiT's).
    """

    sigma_data: float = 0.5

    def __post_init__(self):
        if self.sigma_data <= 0:
            raise ValueError(f"sigma_data must be positive, got {self.sigma_data}")

    def scales(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in, c_noise (table 1), each of sigma's shape."""
        total = sigma.square() + self.sigma_data**2
        c_skip = self.sigma_data**2 / total
        c_out = sigma * self.sigma_data * total.rsqrt()
        return c_skip, c_out, total.rsqrt(), sigma.log() / 4

    def denoise(
        self, network: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor
    ) -> Tensor:
        """D(x; sigma) = c_skip x + c_out F(c_in x, c_noise) (equation 7).

        Args:
            network: F: (B, ...), (B,) -> (B, ...). Guidance, if any, acts on its outputs.
            x: noisy samples, (B, ...); ``sigma``: their noise levels, (B,), positive.

        Returns:
            Denoised samples, (B, ...).
        """
        c_skip, c_out, c_in, c_noise = self.scales(sigma)
        output = network(expand(c_in, x) * x, c_noise)
        return expand(c_skip, x) * x + expand(c_out, x) * output

    def weight(self, sigma: Tensor) -> Tensor:
        """lambda = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2: an equal loss at each level."""
        return (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()

    def weighted_error(self, denoised: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
        """lambda(sigma) (D - x)^2, (B, ...), not averaged: masked training keeps a part of it."""
        return expand(self.weight(sigma), clean) * (denoised - clean).square()


def lognormal_sigmas(
    n: int, mean: float = -1.2, std: float = 1.2, device: torch.device | str | None = None
) -> Tensor:
    """n training noise levels, ln sigma ~ N(mean, std^2) (table 1)."""
    return (mean + std * torch.randn(n, device=device)).exp()


def karras_sigmas(
    num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """Noise levels of a sampler, (N + 1,) float64, falling, the last one 0 (equation 5).

    Raises:
        ValueError: if ``num_steps`` is below 1, or not 0 < sigma_min < sigma_max.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"need 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, ramp.new_zeros(1)])


@torch.no_grad()
def edm_sample(
    denoiser: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    sigmas: Tensor,
    heun: bool = True,
    churn: float = 0.0,
    churn_range: tuple[float, float] = (0.0, math.inf),
    churn_noise: float = 1.0,
) -> Tensor:
    """Follow dx/dsigma = (x - D) / sigma from noise to data (algorithm 2; 1 without churn).

    The state is kept in double precision, the denoiser works in that of ``noise``.

    Args:
        denoiser: (x (B, ...), sigma (B,)) -> D (B, ...).
        noise: standard Gaussian, (B, ...).
        sigmas: (N + 1,), falling to 0, see :func:`karras_sigmas`.
        heun: correct each step but the last by the slope at its end (2 N - 1 calls of the denoiser
            instead of N).
        churn: S_churn, amount of fresh noise; 0 is deterministic.
        churn_range: S_tmin and S_tmax, noise levels at which it is added.
        churn_noise: S_noise, standard deviation of the fresh noise.

    Returns:
        Samples, (B, ...), of noise's precision.
    """
    wide = torch.float32 if noise.device.type == "mps" else torch.float64
    most = min(churn / (len(sigmas) - 1), math.sqrt(2) - 1)  # gamma_i

    def slope(x: Tensor, sigma: float) -> Tensor:
        denoised = denoiser(x.to(noise.dtype), noise.new_full((len(x),), sigma))
        return (x - denoised.to(wide)) / sigma

    levels = sigmas.tolist()
    x = noise.to(wide) * levels[0]
    for sigma, after in zip(levels, levels[1:], strict=False):
        if most > 0 and churn_range[0] <= sigma <= churn_range[1]:
            raised = sigma * (1 + most)
            fresh = churn_noise * torch.randn_like(noise).to(wide)
            x, sigma = x + (raised**2 - sigma**2) ** 0.5 * fresh, raised
        first = slope(x, sigma)
        end = x + (after - sigma) * first  # Euler
        if heun and after > 0:
            end = x + (after - sigma) * (first + slope(end, after)) / 2
        x = end
    return x.to(noise.dtype)
