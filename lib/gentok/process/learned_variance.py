"""Learning the variance of a step backwards by the variational bound (improved DDPM).

Nichol and Dhariwal 2021 (arXiv:2102.09672), 3.1; DiT, ViTok and MAR's heads train this way.

Shapes: B batch; axis 1 the channels C, of which the network emits 2C. Steps t as in
:mod:`gentok.process.ddpm`.
"""

import math

import torch
from torch import Tensor

from gentok.process.ddpm import GaussianDiffusion, posterior_mean, posterior_variance, spread


def range_log_variance(
    diffusion: GaussianDiffusion, v: Tensor, t: int | Tensor, s: int | Tensor
) -> Tensor:
    """log variance of the step from t to s (equation 15): f log beta + (1 - f) log beta-tilde.

    Args:
        diffusion: the schedule.
        v: the network's second half, (B, C, ...); f = (v + 1) / 2, so that [-1, 1] spans the range.
        t: steps, an int or (B,); ``s``: the earlier steps, alike.

    Returns:
        (B, C, ...), natural logarithm.
    """
    low, high = (spread(bound, v) for bound in _log_bounds(diffusion, t, s))
    fraction = (v + 1) / 2
    return fraction * high + (1 - fraction) * low


def gaussian_kl(mean: Tensor, log_variance: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL of two diagonal Gaussians, elementwise, in nats."""
    ratio = (log_variance - log_variance2).exp()
    distance = (mean - mean2).square() * (-log_variance2).exp()
    return 0.5 * (log_variance2 - log_variance - 1 + ratio + distance)


def binned_log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log probability of the 8-bit bin around ``x`` in [-1, 1] under a Gaussian, elementwise.

    Bins reach 1/255 to each side, those at the ends to infinity (DDPM, equation 13). MAR's heads
    apply it to latents as well, which are no pixels.
    """
    scale = (-0.5 * log_variance).exp()
    upper = torch.special.ndtr((x - mean + 1 / 255) * scale)
    lower = torch.special.ndtr((x - mean - 1 / 255) * scale)
    mass = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return mass.clamp_min(1e-12).log()


def variational_bound(
    diffusion: GaussianDiffusion, output: Tensor, x0: Tensor, x_t: Tensor, t: Tensor
) -> Tensor:
    """One term of the bound for each sample, in bits a number: it trains the variance alone.

    KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), at t = 0 the likelihood of ``x0``. The predicted
    mean is detached (3.1). The papers' sum over the T terms with weight 0.001 is, at T = 1000, this
    one random term with weight 1.

    Args:
        diffusion: the schedule, with ``variance="learned"``.
        output: the network's, (B, 2C, ...); ``x0``, ``x_t``: (B, C, ...); ``t``: (B,) int64.

    Returns:
        (B,), mean over all axes but the first.

    Raises:
        ValueError: if the variance is not learned.
    """
    if diffusion.variance != "learned":
        raise ValueError(f"variance must be 'learned', got {diffusion.variance!r}")
    before = diffusion.alpha_bar(t), diffusion.alpha_bar(t - 1)
    guess = diffusion.predict_data(output, x_t, t).detach()
    mean = posterior_mean(guess, x_t, *before)
    log_variance = range_log_variance(diffusion, diffusion.split(output)[1], t, t - 1)
    truth = posterior_mean(x0, x_t, *before)
    kl = gaussian_kl(truth, spread(_log_bounds(diffusion, t, t - 1)[0], x0), mean, log_variance)
    likelihood = binned_log_likelihood(x0, mean, log_variance)
    terms = torch.where(spread(t, x0) == 0, -likelihood, kl)
    return terms.flatten(1).mean(1) / math.log(2)


def _log_bounds(
    diffusion: GaussianDiffusion, t: int | Tensor, s: int | Tensor
) -> tuple[Tensor, Tensor]:
    """log beta-tilde and log beta of the step from t to s."""
    t, s = torch.as_tensor(t), torch.as_tensor(s)
    high = 1 - diffusion.alpha_bar(t) / diffusion.alpha_bar(s)
    # The last step's beta-tilde is 0: in its place the next step's (Nichol and Dhariwal's code).
    low = posterior_variance(
        diffusion.alpha_bar(t.clamp_min(1)), diffusion.alpha_bar(s.clamp_min(0))
    )
    return low.log(), high.log()
