"""Which patches of a cloud are masked: at random, or a neighbourhood (Pang et al. 2022, 3.1).

Shapes: B batch, G patches, V visible and M masked ones (V + M = G).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gentok.nn.points import distances, take_points


class Split(NamedTuple):
    """Which patches are visible and which are masked, equally many in every cloud."""

    visible: Tensor  # (B, V), int64
    masked: Tensor  # (B, M), int64


def split(mask: Tensor, num_masked: int) -> Split:
    """Places of visible and masked patches from a mask (B, G), each in rising order.

    Raises:
        ValueError: if a cloud has another number of masked patches than ``num_masked``: places of
            unequal number do not make a table, and cutting one anyway would mix up clouds.
    """
    if not mask.is_meta and not bool((mask.sum(-1) == num_masked).all()):
        raise ValueError(
            f"every cloud needs {num_masked} masked patches, got {mask.sum(-1).tolist()}"
        )
    order = mask.to(torch.uint8).argsort(dim=-1, stable=True)
    cut = mask.shape[1] - num_masked
    return Split(order[:, :cut], order[:, cut:])


def block_mask(centres: Tensor, num_masked: int) -> Tensor:
    """Mask one random patch and the patches nearest to it: (B, G, 3) -> (B, G) bool."""
    b, g, _ = centres.shape
    seed = torch.randint(g, (b, 1), device=centres.device)
    gaps = distances(take_points(centres, seed), centres)[:, 0]  # (B, G)
    return gaps.argsort(-1).argsort(-1) < num_masked
