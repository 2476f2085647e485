"""Fréchet distance between two sets of features (Heusel et al. 2017).

With Inception features this number is FID. The book uses features of a small classifier trained on
the data at hand, and always says so: its values compare with each other, not with published FIDs.

Shapes: N items, F features.
"""

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance between Gaussians fitted to two sets of features.

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), with unbiased covariances S, in float64. It
    is biased upwards at small N: compare only numbers made with equal N, and state N.

    Args:
        a, b: features, (N, F) and (N', F), one row an item.

    Returns:
        squared feature units, 0 or more; 0 for equal means and covariances.

    Raises:
        ValueError: if the sets are not (N, F) with equal F, at least two rows and finite values.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            "a and b must be features (N, F) with equal F and N >= 2, "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    a, b = a.detach().double(), b.detach().double()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("a and b must be finite, got NaN or infinity")
    cov_a, cov_b = torch.cov(a.T).view(a.shape[1], -1), torch.cov(b.T).view(a.shape[1], -1)
    # tr (S_a S_b)^(1/2) through a symmetric product of the same eigenvalues: no complex root.
    root = _square_root(cov_a)
    eigenvalues = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0)
    means = (a.mean(0) - b.mean(0)).square().sum()
    distance = means + cov_a.trace() + cov_b.trace() - 2 * eigenvalues.sqrt().sum()
    return max(float(distance), 0.0)


def _square_root(matrix: Tensor) -> Tensor:
    """Symmetric square root of a covariance, (F, F); rounding below zero is cut off."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
