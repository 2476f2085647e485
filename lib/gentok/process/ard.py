"""Automatic relevance determination: a prior whose variance, axis by axis, is read off data.

The hierarchical prior of Saha et al. 2025 (arXiv:2501.10901), after MacKay and Neal: each latent
axis is Gaussian around 0 with a precision of its own, p(z_l | alpha_l) = N(0, 1 / alpha_l), and the
precision is Gamma(a0, b0). Encoded samples D_z turn the Gamma into another Gamma. With the
precision integrated out, the prior of a new z_l is a Student-t; where the samples are many, it is
nearly the Gaussian of variance b_l / a.

Shapes: N samples, B batch, L axes.
"""

import math

import torch
from torch import Tensor


def gamma_posterior(z: Tensor, a0: float = 0.0, b0: float = 0.0) -> tuple[Tensor, Tensor]:
    """What samples say about the precision of each axis: Gamma(a, b_l) with rate b_l.

    Args:
        z: encoded samples, (N, L). Samples and not means: an axis that nobody uses has mean 0, and
            a variance of 0 would make its KL infinite.
        a0: shape, and ``b0``: rate, of the hyper-prior; the authors' code sets both to 0.

    Returns:
        a: shape, a scalar, the same for all axes.
        b: rates, (L,).

    Raises:
        ValueError: if ``z`` is not (N, L) with N of 1 or more, or a hyper-parameter is negative.
    """
    if z.ndim != 2 or not len(z):
        raise ValueError(f"z must be (N, L) with N of 1 or more, got {tuple(z.shape)}")
    if a0 < 0 or b0 < 0:
        raise ValueError(f"a0 and b0 must be 0 or more, got {a0} and {b0}")
    # a = a0 + N / 2,  b_l = b0 + sum_n z_nl^2 / 2: a second moment about 0, not about the mean
    a = z.new_tensor(a0 + len(z) / 2)
    return a, b0 + z.square().sum(0) / 2


def student_log_prob(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """log St(z_l; location 0, scale^2 b_l / a, 2a degrees of freedom): the predictive prior.

    Args:
        z: latents, (..., L); ``a``: (), ``b``: (L,), as `gamma_posterior` gives them.

    Returns:
        nats, (..., L).
    """
    # In double precision: lgamma(a + 1/2) - lgamma(a) is a small difference of large numbers.
    a, b = a.double(), b.double()
    normaliser = torch.lgamma(a + 0.5) - torch.lgamma(a) - 0.5 * (2 * math.pi * b).log()
    return (normaliser - (a + 0.5) * torch.log1p(z.double().square() / (2 * b))).to(z.dtype)


def gaussian_log_prob(z: Tensor, variance: Tensor) -> Tensor:
    """log N(z_l; 0, variance_l), nats, (..., L): what stands for the Student-t in the code."""
    return -0.5 * (z.square() / variance + (2 * math.pi * variance).log())


def kl_to_axes(mean: Tensor, logvar: Tensor, variance: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, variance)) of each axis.

    Args:
        mean, logvar: of the posterior, (B, L).
        variance: of the prior, (L,), above 0; 1 gives the KL of a plain VAE.

    Returns:
        nats, (B, L).
    """
    # (log sigma^2 - log s^2 - 1 + (mu^2 + s^2) / sigma^2) / 2
    return 0.5 * (variance.log() - logvar - 1 + (mean.square() + logvar.exp()) / variance)


def kl_to_student(mean: Tensor, logvar: Tensor, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The same against the Student-t, estimated with one sample; unbiased.

    There is no closed form. The KL to the Gaussian of variance b_l / a has one, and only the small
    difference of the two log-densities is taken at the sample, so the estimate hardly scatters.

    Args:
        mean, logvar: of the posterior, (B, L); ``z``: a sample of it, (B, L).
        a, b: as `gamma_posterior` gives them.

    Returns:
        nats, (B, L).
    """
    variance = b / a
    gap = gaussian_log_prob(z, variance) - student_log_prob(z, a, b)
    return kl_to_axes(mean, logvar, variance) + gap
