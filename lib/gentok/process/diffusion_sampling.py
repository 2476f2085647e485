"""Samplers of denoising diffusion: ancestral steps (DDPM) and DDIM, over any subset of the steps.

Ho et al. 2020, algorithm 2; Song et al. 2021 (DDIM, arXiv:2010.02502), equations 12 and 16; fewer
steps than in training: Nichol and Dhariwal 2021, section 4, where the variances are those of the
longer jump and the network is told the original t.

Shapes: B batch, C channels (2C in the output of a network with learned variance). Steps t as in
:mod:`gentok.process.ddpm`: from T - 1 down to 0, and -1 for the clean sample.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gentok.process.ddpm import (
    GaussianDiffusion,
    data_weights,
    posterior_mean,
    posterior_variance,
)
from gentok.process.learned_variance import range_log_variance

Network = Callable[[Tensor, Tensor], Tensor]


def ancestral_step(
    diffusion: GaussianDiffusion,
    output: Tensor,
    x_t: Tensor,
    t: int,
    s: int,
    noise: Tensor,
    clip: float | None = None,
) -> Tensor:
    """A draw of p(x_s | x_t), the posterior with the predicted x_0 (equations 7 and 11).

    Args:
        diffusion: schedule, prediction and variance.
        output: the network's at t, (B, C or 2C, ...); ``x_t``: (B, C, ...).
        t: the step that ``x_t`` is at; ``s``: the earlier one to go to, -1 for the clean sample.
        noise: standard Gaussian, (B, C, ...); the last step adds none.
        clip: keep the predicted x_0 within [-clip, clip]; None: leave it.
    """
    x0 = diffusion.predict_data(output, x_t, t)
    x0 = x0 if clip is None else x0.clamp(-clip, clip)
    alpha_bar_t, alpha_bar_s = diffusion.alpha_bar(t), diffusion.alpha_bar(s)
    mean = posterior_mean(x0, x_t, alpha_bar_t, alpha_bar_s)
    if s < 0:
        return mean
    if diffusion.variance == "learned":
        v = diffusion.split(output)[1]
        return mean + (0.5 * range_log_variance(diffusion, v, t, s)).exp() * noise
    if diffusion.variance == "large":
        return mean + (1 - alpha_bar_t / alpha_bar_s) ** 0.5 * noise
    return mean + posterior_variance(alpha_bar_t, alpha_bar_s) ** 0.5 * noise


def ddim_step(
    diffusion: GaussianDiffusion,
    output: Tensor,
    x_t: Tensor,
    t: int,
    s: int,
    noise: Tensor | None = None,
    eta: float = 0.0,
    clip: float | None = None,
) -> Tensor:
    """x_s = sqrt(alpha-bar_s) x_0 + sqrt(1 - alpha-bar_s - sigma^2) eps + sigma z (equation 12).

    sigma is eta times the ancestral step's (equation 16): eta = 0 is deterministic. Arguments as
    for :func:`ancestral_step`; a learned variance is not used. With ``clip``, eps follows from the
    clipped x_0.

    Raises:
        ValueError: if ``eta`` is not in [0, 1], or positive and ``noise`` is missing.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    if eta > 0 and noise is None:
        raise ValueError(f"eta = {eta} needs noise, got None")
    share_t, share_s = diffusion.alpha_bar(t), diffusion.alpha_bar(s)
    sigma = eta * posterior_variance(share_t, share_s) ** 0.5
    # eps = (x_t - sqrt(alpha-bar_t) x_0) / sqrt(1 - alpha-bar_t), put into equation 12.
    of_state = ((1 - share_s - sigma**2) / (1 - share_t)) ** 0.5
    of_data = share_s**0.5 - of_state * share_t**0.5
    if clip is None:  # x_0 is a sum, too: one sum instead of two
        by_state, by_output = data_weights(share_t, diffusion.prediction)
        of_state = of_state + of_data * by_state
        x_s = torch.add(of_state * x_t, diffusion.split(output)[0], alpha=of_data * by_output)
    else:
        x0 = diffusion.predict_data(output, x_t, t).clamp(-clip, clip)
        x_s = torch.add(of_state * x_t, x0, alpha=of_data)
    return x_s.add(noise, alpha=sigma) if sigma > 0 else x_s


@torch.no_grad()
def ancestral_sample(
    diffusion: GaussianDiffusion,
    network: Network,
    noise: Tensor,
    steps: Sequence[int],
    temperature: float = 1.0,
    clip: float | None = None,
) -> Tensor:
    """Follow the chain from noise to data by ancestral steps.

    Args:
        diffusion: schedule, prediction and variance.
        network: (x_t (B, C, ...), t (B,) int64) -> (B, C or 2C, ...).
        noise: the state before the first step, (B, C, ...).
        steps: steps to visit, falling; see ``even_steps`` and ``last_steps``.
        temperature: factor of the noise added on the way (MAR); the start is left alone.
        clip: see :func:`ancestral_step`.

    Returns:
        The clean sample, (B, C, ...).

    Raises:
        ValueError: if ``steps`` is empty or does not fall.
    """
    x = noise
    for t, s in _jumps(steps):
        output = network(x, torch.full((len(x),), t, device=x.device))
        x = ancestral_step(diffusion, output, x, t, s, temperature * torch.randn_like(x), clip)
    return x


@torch.no_grad()
def ddim_sample(
    diffusion: GaussianDiffusion,
    network: Network,
    noise: Tensor,
    steps: Sequence[int],
    eta: float = 0.0,
    clip: float | None = None,
) -> Tensor:
    """Follow the chain from noise to data by DDIM steps.

    Args as for :func:`ancestral_sample`; ``eta`` is the share of the ancestral noise, in [0, 1].
    """
    x = noise
    for t, s in _jumps(steps):
        output = network(x, torch.full((len(x),), t, device=x.device))
        fresh = torch.randn_like(x) if eta > 0 else None
        x = ddim_step(diffusion, output, x, t, s, fresh, eta, clip)
    return x


def _jumps(steps: Sequence[int]) -> list[tuple[int, int]]:
    """Falling steps -> pairs (t, s); the last goes to the clean sample, -1."""
    steps = list(steps)
    jumps = list(zip(steps, [*steps[1:], -1], strict=True))
    if not steps or any(t <= s for t, s in jumps):
        raise ValueError(f"steps must fall and be at least 0, got {steps[:8]}")
    return jumps
