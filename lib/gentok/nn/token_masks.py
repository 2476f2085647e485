"""Dropping tokens: which are kept, taking them out, and putting them back.

A masked transformer works on the tokens that are left, not on all of them with some blacked out:
that is where it saves.

Shapes: B batch, N tokens, M of them kept, D channels.
"""

import torch
from torch import Tensor


def num_kept(num_tokens: int, ratio: float) -> int:
    """M = floor(N (1 - ratio)), the tokens that a mask ratio leaves.

    Raises:
        ValueError: if ``ratio`` is not in [0, 1), or none would be left.
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio must lie in [0, 1), got {ratio}")
    count = int(num_tokens * (1 - ratio) + 1e-9)  # 10 (1 - 0.8) is 1.999... in floats
    if count < 1:
        raise ValueError(f"a ratio of {ratio} leaves none of {num_tokens} tokens")
    return count


def random_keep(
    n: int, num_tokens: int, ratio: float, device: torch.device | str | None = None
) -> Tensor:
    """The places that are kept, another random choice for each sample.

    Args:
        n: samples B; ``num_tokens``: N.
        ratio: share that is dropped, in [0, 1).

    Returns:
        (B, M) int64, in no order.

    Raises:
        ValueError: as `num_kept`.
    """
    count = num_kept(num_tokens, ratio)
    return torch.rand(n, num_tokens, device=device).argsort(1)[:, :count]


def take_tokens(x: Tensor, index: Tensor) -> Tensor:
    """The tokens at places: (B, N, D), (B, M) -> (B, M, D)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def put_tokens(x: Tensor, index: Tensor, num_tokens: int) -> Tensor:
    """Tokens back at their places, zeros elsewhere: (B, M, D), (B, M) -> (B, N, D)."""
    whole = x.new_zeros(len(x), num_tokens, x.shape[-1])
    return whole.scatter(1, index[..., None].expand(-1, -1, x.shape[-1]), x)


def kept_mask(index: Tensor, num_tokens: int) -> Tensor:
    """True where a token is kept: (B, M) -> (B, N) bool."""
    mask = torch.zeros(len(index), num_tokens, dtype=torch.bool, device=index.device)
    return mask.scatter(1, index, True)
