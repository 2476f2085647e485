"""Causal self-attention that remembers keys and values (Vaswani et al. 2017, 3.2; Shazeer 2019).

In sampling, the keys and values of earlier tokens never change. With a cache each new token costs
one query against them instead of a pass over the whole prefix.

Shapes: B batch, N new tokens, M all tokens so far, D channels, h heads, d = D / h.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.attention import merge_heads, split_heads
from gentok.nn.rope import Rope


class KVCache:
    """Keys and values of the tokens that one attention layer has seen."""

    def __init__(self):
        self.keys: Tensor | None = None  # (B, h, M, d)
        self.values: Tensor | None = None

    def __len__(self) -> int:
        """M, the number of tokens held."""
        return 0 if self.keys is None else self.keys.shape[2]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of new tokens, (B, h, N, d) each; returns all, (B, h, M + N, d) each."""
        if self.keys is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values

    def truncate(self, length: int) -> None:
        """Forget all tokens after the first ``length`` (drafts that were rejected).

        Raises:
            ValueError: if fewer tokens than ``length`` are held.
        """
        if not 0 <= length <= len(self):
            raise ValueError(f"length must lie in [0, {len(self)}], got {length}")
        if self.keys is not None:
            self.keys, self.values = self.keys[:, :, :length], self.values[:, :, :length]


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Each query reads the keys up to its own place; the queries are the last N of M tokens.

    Args:
        q: (B, h, N, d).
        k, v: (B, h, M, d), M >= N.
        scale: factor of the scores; d^(-1/2) if None.

    Returns:
        (B, h, N, d).
    """
    new, total = q.shape[2], k.shape[2]
    if new == total or new == 1:
        return F.scaled_dot_product_attention(q, k, v, is_causal=new > 1, scale=scale)
    # The kernel's own causal mask is aligned at the first token, these queries at the last.
    mask = torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


class CausalSelfAttention(nn.Module):
    """Every token reads itself and those before it.

    Args:
        dim: channels D.
        num_heads: h; must divide ``dim``.
        bias: biases on both projections.
        rope: one-axis rotary embedding of queries and keys, or None.

    Raises:
        ValueError: if ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, bias: bool = True, rope: Rope | None = None):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got num_heads={num_heads}, dim={dim}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim, bias=bias)
        self.rope = rope

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Attend.

        Args:
            x: the new tokens, (B, N, D).
            cache: what came before; the new tokens are added to it.

        Returns:
            (B, N, D).
        """
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        if self.rope is not None:
            start = 0 if cache is None else len(cache)
            positions = torch.arange(start, start + x.shape[1], device=x.device)
            q, k = self.rope(q, positions), self.rope(k, positions)
        if cache is not None:
            k, v = cache.append(k, v)
        return self.proj(merge_heads(causal_attention(q, k, v)))
