"""Which tokens a decoding step works on: newly revealed, revealed earlier, still masked.

All rows of a batch hold equally many tokens of each kind, so a group is a rectangular tensor of
positions, and networks need no padding and no attention mask.

Shapes: B batch, N tokens, D channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """What a step hands to the next one.

    Attributes:
        features: (B, N, D), before the network's final norm.
        mask: (B, N) bool, True where the token was masked in that step.
    """

    features: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Groups:
    """Positions, (B, n) int64 each; together they are a permutation of 0..N-1 in every row.

    Attributes:
        new: visible now, and masked in the earlier step (or: no earlier step is known).
        old: visible now and in the earlier step.
        masked: still hidden.
    """

    new: Tensor
    old: Tensor
    masked: Tensor

    @classmethod
    def from_masks(cls, mask: Tensor, previous: Tensor | None = None) -> "Groups":
        """Sort positions by the masks of this step and of the earlier one (True: masked).

        Args:
            mask: (B, N) bool; ``previous``: the same, or None if nothing is to be reused.

        Raises:
            ValueError: if rows differ in a count, or a token that was visible is masked again.
        """
        if previous is None:
            previous = torch.ones_like(mask)
        if bool((mask & ~previous).any()):
            raise ValueError("mask hides a token that was visible in the earlier step")
        return cls(positions(~mask & previous), positions(~previous), positions(mask))

    @classmethod
    def from_order(cls, order: Tensor, num_masked: int, num_new: int | None = None) -> "Groups":
        """Cut a permutation (B, N) into ``num_masked`` masked, then new, then old positions.

        ``num_new=None`` makes all visible positions new.
        """
        visible = order.shape[1] - num_masked
        sizes = [num_masked, visible if num_new is None else num_new]
        masked, new, old = order.split([*sizes, order.shape[1] - sum(sizes)], dim=1)
        return cls(new, old, masked)


def positions(where: Tensor) -> Tensor:
    """Bool (B, N) -> positions of True, (B, n) int64, in raster order.

    Raises:
        ValueError: if rows differ in their number n of True.
    """
    counts = where.sum(1)
    if bool((counts != counts[0]).any()):
        raise ValueError(
            f"all rows must have equally many such tokens, got between {int(counts.min())} and "
            f"{int(counts.max())}"
        )
    return where.nonzero()[:, 1].view(len(where), int(counts[0]))


def take(x: Tensor, index: Tensor) -> Tensor:
    """Tokens (B, N, D) at positions (B, n) -> (B, n, D)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def put(pieces: list[Tensor], indices: list[Tensor]) -> Tensor:
    """The inverse of :func:`take`: pieces (B, n_i, D) back to their positions -> (B, N, D)."""
    x, index = torch.cat(pieces, dim=1), torch.cat(indices, dim=1)
    return torch.empty_like(x).scatter(1, index[..., None].expand_as(x), x)
