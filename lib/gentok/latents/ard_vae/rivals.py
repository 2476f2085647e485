"""What ARD-VAE is held against, in its own networks: two autoencoders without a posterior.

The plain VAE and the beta-VAE are ARD-VAE's own configuration with the prior ``"normal"``. These
two have no KL term, and so no rate in nats: only their error and their axes can be compared.

Shapes: B batch, L axes.
"""

from dataclasses import replace

import torch
from torch import Tensor

from gentok.latents.ard_vae.model import ARDVAE, ARDVAEConfig
from gentok.latents.ard_vae.networks import squared_error

WAE_WEIGHT = 1.0  # of the MMD, against a squared error summed over a picture; not the papers'
L2_LATENT, L2_DECODER = 1e-3, 1e-6
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel, as is usual


class Deterministic(ARDVAE):
    """ARD-VAE's networks, of which only the mean is used; its axes are read in the same way."""

    def __init__(self, config: ARDVAEConfig):
        super().__init__(replace(config, prior="normal"))

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means, and log-variances so low that a sample is its mean; (B, L) each."""
        mean, _ = super().moments(x)
        return mean, torch.full_like(mean, -30.0)

    def penalty(self, z: Tensor) -> Tensor:
        """What is added to the squared error, ()."""
        return torch.zeros(()).to(z)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """|x - x_hat|^2 + penalty; parts ``sse`` and ``penalty``."""
        x = batch["image"]
        z = self.moments(x)[0]
        sse, penalty = squared_error(self.target(x), self.decoder(z)), self.penalty(z)
        return sse + penalty, {"sse": sse, "penalty": penalty}


class WassersteinAE(Deterministic):
    """WAE-MMD (Tolstikhin et al. 2018, arXiv:1711.01558): all codes together look like N(0, I)."""

    def penalty(self, z: Tensor) -> Tensor:
        """The weighted maximum mean discrepancy of the batch's codes to as many normal draws."""
        return WAE_WEIGHT * mmd(z, torch.randn_like(z))


class RegularizedAE(Deterministic):
    """RAE-L2 (Ghosh et al. 2020, arXiv:1903.12436): small codes, small weights of the decoder."""

    def penalty(self, z: Tensor) -> Tensor:
        """|z|^2 / 2 a picture, and the squared weights of the decoder."""
        weights = sum(p.square().sum() for p in self.decoder.parameters())
        return L2_LATENT * 0.5 * z.square().sum(1).mean() + L2_DECODER * weights


def mmd(z: Tensor, normal: Tensor) -> Tensor:
    """Unbiased squared MMD with inverse multiquadratic kernels, summed over scales.

    Args:
        z, normal: two samples, (B, L), B of 2 or more.

    Returns:
        scalar; its mean is 0 if both are drawn alike.
    """
    count, axes = z.shape
    within = [_squared_distances(x, x) for x in (z, normal)]
    between = _squared_distances(z, normal)
    total = z.new_zeros(())
    for scale in SCALES:
        base = 2 * axes * scale  # C = 2 L sigma^2 of a standard normal, times a scale
        alike = sum((base / (base + d)).sum() - count for d in within)  # k(x, x) = 1
        total = total + alike / (count * (count - 1)) - 2 * (base / (base + between)).mean()
    return total


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, (B, B)."""
    return (x[:, None] - y[None]).square().sum(-1)


RIVALS = {"WAE": WassersteinAE, "RAE-L2": RegularizedAE}
