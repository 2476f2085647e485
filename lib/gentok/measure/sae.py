"""How well a sparse autoencoder reconstructs, and what became of its features.

Definitions follow SAEBench (Karvonen et al. 2025) as the vSAE paper uses them.

Shapes: N tokens, D activation width, F features of the dictionary.
"""

import torch.nn.functional as F
from torch import Tensor

CHUNK = 1024  # rows of a similarity matrix held at once


def _check(x: Tensor, x_hat: Tensor) -> None:
    if x.ndim != 2 or x.shape != x_hat.shape or not x.numel():
        raise ValueError(
            "x and x_hat must be activations (N, D) of one shape, "
            f"got {tuple(x.shape)} and {tuple(x_hat.shape)}"
        )


def explained_variance(x: Tensor, x_hat: Tensor) -> float:
    """1 - E|x - x_hat|^2 / E|x - mean x|^2: 1 is perfect, 0 no better than the mean activation.

    Args:
        x, x_hat: activations and reconstructions, (N, D).

    Raises:
        ValueError: if the shapes differ or are not (N, D), or all activations are alike: there is
            no variance to explain.
    """
    _check(x, x_hat)
    error = (x - x_hat).square().sum(1).mean()
    variance = (x - x.mean(0)).square().sum(1).mean()
    if not variance > 1e-12 * x.square().sum(1).mean():
        raise ValueError(f"x must hold activations that differ, got {tuple(x.shape)} alike")
    return float(1 - error / variance)


def cosine(x: Tensor, x_hat: Tensor) -> float:
    """Mean cosine similarity of activations and reconstructions, in [-1, 1].

    Args:
        x, x_hat: (N, D).

    Raises:
        ValueError: if the shapes differ or are not (N, D).
    """
    _check(x, x_hat)
    return float(F.cosine_similarity(x, x_hat, dim=1).mean())


def l0(features: Tensor) -> float:
    """Mean number of non-zero features of a token.

    Args:
        features: what the encoder returns, (N, F).
    """
    return float((features != 0).sum(1).float().mean())


def alive_fraction(features: Tensor) -> float:
    """Share of the dictionary that is non-zero on at least one of these tokens, in [0, 1].

    It grows with N, so compare at equal N. SAEBench asks for a positive value; that is the same for
    features that cannot be negative, and counts units that fire negatively where they can.

    Args:
        features: what the encoder returns, (N, F).
    """
    return float((features != 0).any(0).float().mean())


def nearest_neighbour_cosines(directions: Tensor) -> Tensor:
    """For each feature, the largest cosine between its direction and that of another feature.

    Args:
        directions: decoder directions, one a row, (F, D), F at least 2.

    Returns:
        (F,), in [-1, 1]; near 1 where two features are copies.

    Raises:
        ValueError: if ``directions`` is not (F, D) with two rows or more.
    """
    if directions.ndim != 2 or len(directions) < 2:
        raise ValueError(f"directions must be (F, D) with F >= 2, got {tuple(directions.shape)}")
    unit = F.normalize(directions.detach(), dim=1)
    nearest = unit.new_empty(len(unit))
    for start in range(0, len(unit), CHUNK):
        similarity = unit[start : start + CHUNK] @ unit.T  # (chunk, F)
        similarity.diagonal(offset=start).fill_(-float("inf"))  # not a neighbour of itself
        nearest[start : start + CHUNK] = similarity.amax(1)
    return nearest


def loss_recovered(zero_ablated: float, with_sae: float, original: float) -> float:
    """Share of the language model's loss that survives the SAE, (H0 - H_sae) / (H0 - H_orig).

    Args:
        zero_ablated: H0, loss with the activation replaced by zeros, nats a token.
        with_sae: H_sae, loss with the activation replaced by its reconstruction.
        original: H_orig, loss of the untouched model.

    Returns:
        1 where the reconstruction does no harm, 0 where it is as bad as zeros.

    Raises:
        ValueError: if zeros do no harm, so that there is nothing to recover.
    """
    if zero_ablated <= original:
        raise ValueError(
            f"zero_ablated must exceed original, got {zero_ablated} and {original} nats"
        )
    return (zero_ablated - with_sae) / (zero_ablated - original)
