"""Masked-token generation (Chang et al. 2022, MaskGIT): schedules, masks, what to reveal next.

A mask is bool, True where the token is hidden. Shapes: B batch, N tokens, K codes.
"""

import math

import torch
from torch import Tensor

from gentok.nn.place_head import check_drawable


def num_masked_after(step: int, num_steps: int, num_tokens: int) -> int:
    """Tokens still hidden after step s (from 0) of S: floor(N cos(pi/2 (s+1)/S)).

    The cosine reveals few tokens at first, when little is known, and many at the end; 0 at the end.

    Raises:
        ValueError: if ``step`` is not in [0, num_steps).
    """
    if not 0 <= step < num_steps:
        raise ValueError(f"step must lie in [0, {num_steps}), got {step}")
    if step == num_steps - 1:
        return 0  # cos(pi/2) is not exactly zero in floating point
    return math.floor(num_tokens * math.cos(math.pi / 2 * (step + 1) / num_steps))


def random_mask(batch: int, num_tokens: int, num_masked: int, device=None) -> Tensor:
    """(B, N) bool with exactly ``num_masked`` random True in every row."""
    order = torch.rand(batch, num_tokens, device=device).argsort(-1).argsort(-1)
    return order < num_masked


def gumbel(shape: torch.Size | tuple[int, ...], device=None) -> Tensor:
    """Standard Gumbel noise; -log(-log u) is several times faster than torch's ``exponential_``."""
    u = torch.rand(shape, device=device).clamp_(1e-20, 1 - 1e-7)
    return -torch.log(-torch.log(u))


def gumbel_at(positions: Tensor, num_tokens: int, codebook_size: int) -> Tensor:
    """Gumbel noise for the codes at some positions of a grid: (B, M) -> (B, M, K).

    What a token receives does not depend on which others are asked for: uniform numbers are drawn
    for all N, their logarithms, which cost more, taken of the M.
    """
    u = torch.rand(len(positions), num_tokens, codebook_size, device=positions.device)
    u = u.gather(1, positions[..., None].expand(-1, -1, codebook_size)).clamp_(1e-20, 1 - 1e-7)
    return u.log_().neg_().log_().neg_()


def sample_categorical(logits: Tensor) -> Tensor:
    """One draw from softmax(logits) along the last axis: (..., K) -> (...) int64.

    The Gumbel-max trick: the largest of logits + Gumbel noise has exactly that distribution.

    Raises:
        ValueError: if a row has no finite logit, or one is NaN: there is nothing to draw from.
    """
    check_drawable(logits)
    return (logits + gumbel(logits.shape, logits.device)).argmax(-1)


def remask(confidence: Tensor, num_masked: int) -> Tensor:
    """Hide the ``num_masked`` least confident tokens of each row: (B, N) float -> (B, N) bool.

    Tokens that must stay visible carry +inf. All rows hide equally many, ties broken by position.
    """
    ranks = confidence.argsort(dim=-1, stable=True).argsort(-1)
    return ranks < num_masked
