"""The Gaussian posterior of a variational autoencoder (Kingma and Welling 2014, appendix B).

Shapes: B batch; the rest of a latent's axes are arbitrary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(exp(logvar))) over latents.

    Attributes:
        mean: (B, ...).
        logvar: the same shape; :meth:`from_moments` clamps it to [-30, 20], as LDM does.
    """

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> "DiagonalGaussian":
        """Split an encoder's output (B, 2z, ...) into mean and log-variance (B, z, ...)."""
        if moments.shape[1] % 2:
            raise ValueError(
                f"moments must have an even number of channels, got {moments.shape[1]}"
            )
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    @property
    def std(self) -> Tensor:
        """Standard deviation, the shape of ``mean``."""
        return (0.5 * self.logvar).exp()

    def sample(self) -> Tensor:
        """mean + std * noise: the noise is outside, so gradients reach both."""
        return self.mean + self.std * torch.randn_like(self.mean)

    def mode(self) -> Tensor:
        """The most likely latent: the mean."""
        return self.mean

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) of each sample, (B,), in nats, summed over all its latent numbers."""
        nats = 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar)
        return nats.flatten(1).sum(1)
