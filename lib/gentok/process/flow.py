"""Flow matching on straight paths between noise and data (Lipman et al. 2023; Liu et al. 2023).

Convention of this book: t = 0 is noise, t = 1 is data, x_t = t x + (1 - t) eps, v = x - eps.
Papers disagree on the direction of t; with t' = 1 - t the velocity changes its sign.

Shapes: B batch; the rest of a sample's axes are arbitrary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def expand(t: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1) with as many axes as ``like``."""
    return t.view(-1, *[1] * (like.ndim - 1))


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = t x + (1 - t) eps. Args: x and noise (B, ...), t (B,) in [0, 1]. Returns (B, ...)."""
    return torch.lerp(noise, x, expand(t, x))


def velocity(x: Tensor, noise: Tensor) -> Tensor:
    """The constant speed of the straight path, d x_t / dt = x - eps."""
    return x - noise


def logit_normal_times(n: int, mean: float = 0.0, std: float = 1.0, device=None) -> Tensor:
    """n times in (0, 1), sigmoid of a Gaussian: most of them near the middle (SD3, 3.1)."""
    return torch.sigmoid(mean + std * torch.randn(n, device=device))


def shift_times(t: Tensor, shift: float) -> Tensor:
    """Bend a time grid: t' = s t / (1 + (s - 1) t).

    With s < 1 more of the grid lies near noise (t = 0), which latents of many dimensions need (SD3,
    5.3.2, in the opposite direction of time, where the same bend has s > 1). s = 1 changes nothing.
    """
    return shift * t / (1 + (shift - 1) * t)


def flow_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared velocity error, scalar."""
    return F.mse_loss(predicted, target)


def direction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of predicted and true velocity over the channel axis 1 (LightningDiT's extra)."""
    return (1 - F.cosine_similarity(predicted, target, dim=1)).mean()


@torch.no_grad()
def euler_sample(
    velocity_fn: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    num_steps: int,
    shift: float = 1.0,
    keep: int = 0,
) -> Tensor | tuple[Tensor, list[Tensor]]:
    """Follow the velocity from noise to data with Euler steps.

    Args:
        velocity_fn: (x (B, ...), t (B,)) -> velocity (B, ...).
        noise: x at t = 0, (B, ...).
        num_steps: number of velocity evaluations.
        shift: bend of the time grid, see :func:`shift_times`.
        keep: how many evenly spaced intermediate states to return as well (0: none).

    Returns:
        The state at t = 1, (B, ...); with ``keep``, also the list of ``keep`` states on the way.

    Raises:
        ValueError: if ``num_steps`` is below 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    grid = shift_times(torch.linspace(0, 1, num_steps + 1, device=noise.device), shift)
    wanted = {round(i * num_steps / keep) for i in range(1, keep + 1)} if keep else set()
    x, states = noise, []
    for i in range(num_steps):
        t = grid[i].expand(len(x))
        x = x + (grid[i + 1] - grid[i]) * velocity_fn(x, t)
        if i + 1 in wanted:
            states.append(x)
    return (x, states) if keep else x
