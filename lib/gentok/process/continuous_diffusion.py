"""Diffusion in continuous time, told by its share of signal gamma (FIT, Bit Diffusion).

Chen 2023 (arXiv:2301.10972), section 2, for the schedules; gamma is what DDPM calls alpha-bar, so
the formulas of :mod:`gentok.process.ddpm` hold. Time runs from t = 0 (data) to t = 1 (noise), as in
those papers, the opposite of this book's flow time. The network is told gamma, never t.

Shapes: B batch; the rest of a sample's axes are arbitrary.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gentok.process.ddpm import PREDICTIONS, posterior_mean, to_data, to_noise

SMALLEST = 1e-9  # at t = 1 some signal must be left, since x_0 is found by dividing by its share


def cosine_gamma(t: Tensor) -> Tensor:
    """gamma = cos^2(pi/2 (t + 0.0002) / 1.00025), t in [0, 1], any shape."""
    return torch.cos((t + 2e-4) / (1 + 2.5e-4) * math.pi / 2).square()


def sigmoid_gamma(t: Tensor, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Tensor:
    """A stretch of the sigmoid, from ``start`` to ``end``, scaled to run from 1 to 0."""
    first, last = (1 / (1 + math.exp(-edge / tau)) for edge in (start, end))
    now = torch.sigmoid((t * (end - start) + start) / tau)
    return ((last - now) / (last - first)).clamp(SMALLEST, 1.0)


def linear_gamma(t: Tensor) -> Tensor:
    """gamma = 1 - t."""
    return (1 - t).clamp(SMALLEST, 1.0)


@torch.no_grad()
def gamma_sample(
    network: Callable[[Tensor, Tensor, Any], tuple[Tensor, Any]],
    noise: Tensor,
    num_steps: int,
    schedule: Callable[[Tensor], Tensor] = cosine_gamma,
    prediction: str = "noise",
    stochastic: bool = False,
    clip: float | None = 1.0,
) -> Tensor:
    """From noise to data on an even grid of times.

    Args:
        network: (x (B, ...), gamma (B,), carried) -> (output (B, ...), carried). What it hands back
            beside its output comes to it again at the next step (FIT conditions itself on its
            previous latents); None at the first.
        noise: the state at t = 1, (B, ...).
        num_steps: K; step k goes from t = 1 - k/K to 1 - (k + 1)/K.
        schedule: gamma of t; need not be the one of training.
        prediction: what the network predicts: ``"noise"``, ``"data"`` or ``"velocity"``.
        stochastic: ancestral steps with the large variance 1 - gamma_t / gamma_s instead of DDIM.
        clip: keep the predicted x_0 within [-clip, clip], and let eps follow from it; None: not.

    Returns:
        The last predicted x_0, (B, ...).

    Raises:
        ValueError: if ``num_steps`` is below 1 or ``prediction`` unknown.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be one of {PREDICTIONS}, got {prediction!r}")
    gammas = schedule(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)).tolist()
    x, x0, carried = noise, noise, None
    for now, after in zip(gammas, gammas[1:], strict=False):
        output, carried = network(x, x.new_full((len(x),), now), carried)
        x0 = to_data(output, x, now, prediction)
        x0 = x0 if clip is None else x0.clamp(-clip, clip)
        if stochastic:
            mean = posterior_mean(x0, x, now, after)
            x = mean + (1 - now / after) ** 0.5 * torch.randn_like(x)
        else:
            x = after**0.5 * x0 + (1 - after) ** 0.5 * to_noise(x0, x, now)  # DDIM, equation 12
    return x0
