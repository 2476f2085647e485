"""Operations on sets of points: sampling, neighbours, patches, interpolation (PointNet++).

Qi et al. 2017 (arXiv:1706.02413), 3.2 (farthest point sampling, grouping) and 3.4 (features carried
from few points to many). All are exact, deterministic, and without parameters.

Shapes: B batch, P points, G groups (patches), k points in each, C channels; coordinates (x, y, z).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Patches(NamedTuple):
    """Overlapping patches of a cloud."""

    points: Tensor  # (B, G, k, 3), relative to the patch's centre
    centres: Tensor  # (B, G, 3)
    index: Tensor  # (B, G, k), int64: which points of the cloud, nearest first


def take_points(x: Tensor, index: Tensor) -> Tensor:
    """Rows of each cloud: x (B, P, C) and index (B, ...) int64 -> (B, ..., C)."""
    flat = index.flatten(1)  # (B, M)
    rows = x.gather(1, flat[..., None].expand(-1, -1, x.shape[-1]))  # (B, M, C)
    return rows.unflatten(1, index.shape[1:])


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (B, M, P) from points a (B, M, 3) to points b (B, P, 3)."""
    # The form by matrix products is faster but loses the small distances to rounding.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


@torch.no_grad()
def farthest_points(points: Tensor, n: int, start: int = 0) -> Tensor:
    """Farthest point sampling: each next point is the one farthest from all chosen so far.

    The choice is greedy and sequential, hence the loop over ``n``. A fixed start makes it a
    function of the cloud; ties go to the lower index.

    Args:
        points: (B, P, 3).
        n: number of points to choose, 1 to P.
        start: index of the first.

    Returns:
        indices (B, n), int64, in the order of choice.

    Raises:
        ValueError: if ``points`` has another shape, or ``n`` or ``start`` is out of range.
    """
    _check(points)
    total = points.shape[1]
    if not 1 <= n <= total or not 0 <= start < total:
        raise ValueError(f"need 1 <= n <= {total} and 0 <= start < {total}, got {n} and {start}")
    latest = torch.full((len(points),), start, dtype=torch.int64, device=points.device)
    chosen = [latest]
    nearest = torch.full_like(points[..., 0], torch.inf)  # (B, P), squared, to the chosen ones
    for _ in range(n - 1):
        gap = (points - take_points(points, latest[:, None])).square().sum(-1)
        nearest = torch.minimum(nearest, gap)
        latest = nearest.argmax(-1)
        chosen.append(latest)
    return torch.stack(chosen, dim=1)


@torch.no_grad()
def nearest_neighbours(query: Tensor, points: Tensor, k: int) -> Tensor:
    """Indices (B, M, k) of the k points (B, P, 3) nearest to each query (B, M, 3), nearest first.

    A query that is itself one of the points comes first, at distance 0.

    Raises:
        ValueError: if ``k`` is not in 1..P or a shape is wrong.
    """
    _check(query)
    _check(points)
    if not 1 <= k <= points.shape[1]:
        raise ValueError(f"k must lie in 1..{points.shape[1]}, got {k}")
    return distances(query, points).topk(k, dim=-1, largest=False, sorted=True).indices


def group(points: Tensor, num_groups: int, group_size: int) -> Patches:
    """Cut a cloud into overlapping patches: farthest points as centres, and their neighbours.

    Args:
        points: (B, P, 3).
        num_groups: patches G; ``group_size``: points k of a patch, the centre included.

    Returns:
        the patches, their points relative to the centres.

    Raises:
        ValueError: as `farthest_points` and `nearest_neighbours`.
    """
    centres = take_points(points, farthest_points(points, num_groups))  # (B, G, 3)
    index = nearest_neighbours(centres, points, group_size)  # (B, G, k)
    return Patches(take_points(points, index) - centres[:, :, None], centres, index)


def interpolate(features: Tensor, known: Tensor, query: Tensor, k: int = 3) -> Tensor:
    """Carry features from few points to many: a mean of the k nearest, weighted by 1 / distance^2.

    Equation 2 of PointNet++ with p = 2 and, as its code has it, k = 3.

    Args:
        features: (B, M, C), at the places ``known`` (B, M, 3).
        query: where they are wanted, (B, P, 3).
        k: neighbours to read, 1 to M.

    Returns:
        (B, P, C); at a known place, its own features.

    Raises:
        ValueError: if ``k`` is not in 1..M or a shape is wrong.
    """
    index = nearest_neighbours(query, known, k)  # (B, P, k)
    gap = (take_points(known, index) - query[:, :, None]).square().sum(-1)  # (B, P, k)
    # The small number keeps a known place finite; small beside the gaps, however near all lie.
    weight = 1 / (gap + (1e-4 * gap.detach().amax(-1, keepdim=True)).clamp(1e-30, 1e-8))
    weight = weight / weight.sum(-1, keepdim=True)
    return (weight[..., None] * take_points(features, index)).sum(2)


def _check(points: Tensor) -> None:
    if points.ndim != 3 or points.shape[-1] != 3:
        raise ValueError(f"points must be (B, P, 3), got {tuple(points.shape)}")
