"""Do single latent axes stand for single factors? And can the factors be read at all?

MIG is the mutual information gap of Chen et al. 2018 (arXiv:1802.04942), with mutual information
estimated from histograms, as is usual.

Shapes: N items, L axes, F factors.
"""

import numpy as np
import torch
from torch import Tensor

from gentok.data.imageset import generator


def mutual_information_gap(z: Tensor, values: Tensor, bins: int = 20) -> float:
    """MIG: for each factor, how much more its best axis knows of it than the second best.

    The gap is divided by the factor's entropy and averaged over factors: 1 if every factor has an
    axis of its own, near 0 if each is spread over several.

    Args:
        z: latents, (N, L), L of 2 or more.
        values: factors, (N, F).
        bins: equally wide bins of every axis and factor.

    Raises:
        ValueError: if shapes do not fit.
    """
    from sklearn.metrics import mutual_info_score  # slow to import

    _check(z, values)
    if z.shape[1] < 2:
        raise ValueError(f"the gap is between two axes, got {tuple(z.shape)}")
    axes, factors = _binned(z, bins), _binned(values, bins)
    gaps = []
    for factor in factors.T:
        known = sorted(mutual_info_score(axis, factor) for axis in axes.T)
        gaps.append((known[-1] - known[-2]) / mutual_info_score(factor, factor))
    return float(np.mean(gaps))


def factors_read(z: Tensor, values: Tensor, degree: int = 3) -> list[float]:
    """R^2 of each factor, read by a polynomial of the latents: half of the items for the other.

    Args:
        z: latents, (N, L), few axes of comparable scale.
        values: factors, (N, F).
        degree: of the polynomial.

    Raises:
        ValueError: if shapes do not fit, or there are fewer than 4 items.
    """
    from sklearn.linear_model import LinearRegression
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    _check(z, values)
    half = len(z) // 2
    if half < 2:
        raise ValueError(f"z must hold 4 items or more, got {len(z)}")
    z, values = (x.detach().cpu().double().numpy() for x in (z, values))
    reader = make_pipeline(PolynomialFeatures(degree), LinearRegression())
    reader.fit(z[:half], values[:half])
    found = r2_score(values[half:], reader.predict(z[half:]), multioutput="raw_values")
    return [float(r2) for r2 in found]


def random_rotation(dim: int, seed: int = 0) -> Tensor:
    """A rotation of ``dim`` axes, uniform, (dim, dim), float32: it keeps what is known, not where.

    A measure of disentanglement that a rotation leaves alone measures something else.
    """
    from scipy.stats import special_ortho_group

    state = int(generator(seed).initial_seed() % 2**32)
    return torch.from_numpy(special_ortho_group.rvs(dim, random_state=state)).float()


def _binned(x: Tensor, bins: int) -> np.ndarray:
    """The bin of each number among equally wide ones from the least to the largest, by column."""
    x = x.detach().cpu().double().numpy()
    low, high = x.min(0), x.max(0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum((bins * (x - low) / width).astype(int), bins - 1)


def _check(z: Tensor, values: Tensor) -> None:
    if z.ndim != 2 or values.ndim != 2 or len(z) != len(values):
        raise ValueError(
            f"expected latents (N, L) and factors (N, F), got {tuple(z.shape)}, "
            f"{tuple(values.shape)}"
        )
