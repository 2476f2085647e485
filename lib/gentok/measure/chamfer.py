"""Chamfer distance between sets of points (Fan et al. 2017, arXiv:1612.00603, 4.2).

Shapes: B pairs of sets, P and Q points.
"""

import torch
from torch import Tensor

from gentok.nn.points import distances, take_points


def chamfer_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance to the nearest point of the other set, summed over both directions.

    1/|a| sum_i min_j |a_i - b_j|^2 + 1/|b| sum_j min_i |a_i - b_j|^2. Zero for equal sets, in
    whatever order their points are listed. Each direction alone can be cheated: the first by points
    that crowd in one place, the second by points that spread over all of space.

    Args:
        a: (B, P, 3); ``b``: (B, Q, 3).

    Returns:
        (B,), in squared units of the coordinates, with gradients to both sets.

    Raises:
        ValueError: if the shapes do not fit or a set is empty.
    """
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0] or a.shape[2] != b.shape[2]:
        raise ValueError(f"need (B, P, 3) and (B, Q, 3), got {tuple(a.shape)}, {tuple(b.shape)}")
    if not a.shape[1] or not b.shape[1]:
        raise ValueError(f"a set is empty: {tuple(a.shape)}, {tuple(b.shape)}")
    with torch.no_grad():  # which point is nearest has no gradient; how far it is does
        gaps = distances(a, b)  # (B, P, Q)
        nearest_b, nearest_a = gaps.argmin(2), gaps.argmin(1)  # (B, P), (B, Q)
    forward = (a - take_points(b, nearest_b)).square().sum(-1).mean(-1)
    backward = (b - take_points(a, nearest_a)).square().sum(-1).mean(-1)
    return forward + backward
