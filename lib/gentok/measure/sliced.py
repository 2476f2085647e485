"""Sliced Wasserstein distance: how far apart two clouds of points lie, line by line.

Rabin et al. 2011; on a line the optimal transport of two equally large clouds pairs them in order.
Unlike a Fréchet distance it inverts no covariance, so a few hundred points serve.
"""

import torch
from torch import Tensor

from gentok.measure.fixed import fixed_noise


@torch.no_grad()
def sliced_wasserstein(a: Tensor, b: Tensor, num_directions: int = 256, seed: int = 0) -> float:
    """Mean 1-Wasserstein distance of two clouds, projected onto random directions.

    Args:
        a, b: (n, D) points each, as many in both.
        num_directions: how many directions are averaged, at least 1.
        seed: which ones; the same seed asks both comparisons the same questions.

    Returns:
        the distance, in units of the points; 0 for equal clouds.

    Raises:
        ValueError: if the shapes differ, or there is no direction.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(
            f"a and b must have one shape (n, D), got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if num_directions < 1:
        raise ValueError(f"num_directions must be at least 1, got {num_directions}")
    line = fixed_noise((a.shape[1], num_directions), seed).to(a)
    line = line / line.norm(dim=0)  # (D, R)
    along_a, along_b = ((points @ line).sort(0).values for points in (a, b))  # (n, R)
    return float((along_a - along_b).abs().mean())
