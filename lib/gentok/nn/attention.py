"""Multi-head attention on PyTorch's fused kernel (Vaswani et al. 2017, 3.2).

Self-attention and cross-attention with what later papers add: rotary positions (Su et al. 2021),
normalised queries and keys (Henry et al. 2020), fewer heads of keys and values than of queries
(Shazeer 2019; Ainslie et al. 2023), and masks.

Shapes: B batch, N query tokens, M key tokens, D channels, C channels of a context, h heads of
queries, g heads of keys and values, d channels of a head.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.position import AxialRope2d
from gentok.nn.rope import Rope

MakeNorm = Callable[[int], nn.Module]  # width -> norm over the last axis


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, D) -> (B, h, N, d)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, h, N, d) -> (B, N, D)."""
    return x.transpose(1, 2).flatten(-2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, key_mask: Tensor | None = None
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v; each head of keys serves h / g heads of queries.

    Args:
        q: (B, h, N, d).
        k, v: (B, g, M, d), where g divides h.
        mask: None, or bool that broadcasts to (B, h, N, M), True where a query may read a key.
        key_mask: None, or bool (B, M), True where anybody may read the key. A query must be left
            with one key at least: what it reads without any is not defined.

    Returns:
        (B, h, N, d).
    """
    if key_mask is not None:
        keys = key_mask[:, None, None]  # (B, 1, 1, M)
        mask = keys if mask is None else mask & keys
    shared = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=shared)


class Heads(nn.Module):
    """How many heads there are, how wide, and how queries and keys are normalised.

    Args:
        dim: channels D of the tokens that read.
        num_heads: h.
        head_dim: d; D / h if None, and then h must divide D.
        kv_heads: g, a divisor of h; h if None. 1 is multi-query attention.
        qk_norm: makes the norms of queries and keys from their width, or None.
        qk_full: norms over the whole projected width, not over each head.
        per_head: layout of the fused projection, which published weights dictate: [q k v] of the
            first head, then of the second; otherwise all queries, all keys, all values.

    Raises:
        ValueError: if heads do not divide.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        head_dim: int | None = None,
        kv_heads: int | None = None,
        qk_norm: MakeNorm | None = None,
        qk_full: bool = False,
        per_head: bool = False,
    ):
        super().__init__()
        if head_dim is None and dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got num_heads={num_heads}, dim={dim}")
        kv_heads = num_heads if kv_heads is None else kv_heads
        if kv_heads < 1 or num_heads % kv_heads:
            raise ValueError(
                f"kv_heads must divide num_heads, got kv_heads={kv_heads}, num_heads={num_heads}"
            )
        if per_head and kv_heads != num_heads:
            raise ValueError("per_head needs as many heads of keys as of queries")
        self.num_heads, self.kv_heads = num_heads, kv_heads
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.qk_norm, self.qk_full, self.per_head = qk_norm, qk_full, per_head

    def _add_norms(self) -> None:
        """Parameters of the norms; called between those of the projections."""
        if self.qk_norm is not None:
            widths = (self.num_heads, self.kv_heads) if self.qk_full else (1, 1)
            self.q_norm, self.k_norm = (self.qk_norm(n * self.head_dim) for n in widths)

    def _split(self, fused: Tensor, counts: list[int]) -> list[Tensor]:
        """A fused projection (B, N, (sum of counts) d) -> one (B, count, N, d) for each count."""
        if self.per_head:
            return list(split_heads(fused, self.num_heads).chunk(len(counts), dim=-1))
        parts = fused.split([count * self.head_dim for count in counts], dim=-1)
        return [split_heads(part, count) for part, count in zip(parts, counts, strict=True)]

    def _normed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys (B, heads, tokens, d) after their norms."""
        if self.qk_norm is None:
            return q, k
        if not self.qk_full:
            return self.q_norm(q), self.k_norm(k)
        q, k = self.q_norm(merge_heads(q)), self.k_norm(merge_heads(k))
        return split_heads(q, self.num_heads), split_heads(k, self.kv_heads)


class SelfAttention(Heads):
    """Every token reads every other token.

    Args:
        dim: channels D.
        num_heads: h.
        qkv_bias: bias on the fused query-key-value projection; ``proj_bias``: on the output's.
        rope: rotary embedding of queries and keys, or None. One with a table of its own
            (:class:`AxialRope2d`) needs no positions in ``forward``, :class:`Rope` does.
        heads: ``head_dim``, ``kv_heads``, ``qk_norm``, ``qk_full``, ``per_head`` of :class:`Heads`.

    Raises:
        ValueError: if heads do not divide.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        rope: AxialRope2d | Rope | None = None,
        proj_bias: bool = True,
        **heads,
    ):
        super().__init__(dim, num_heads, **heads)
        self.counts = [self.num_heads, self.kv_heads, self.kv_heads]
        self.qkv = nn.Linear(dim, sum(self.counts) * self.head_dim, bias=qkv_bias)
        self._add_norms()
        self.proj = nn.Linear(num_heads * self.head_dim, dim, bias=proj_bias)
        self.rope = rope

    def heads(self, x: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, N, D) -> queries (B, h, N, d), keys and values (B, g, N, d)."""
        q, k, v = self._split(self.qkv(x), self.counts)
        q, k = self._normed(q, k)
        if self.rope is not None:
            where = () if positions is None else (positions,)
            q, k = self.rope(q, *where), self.rope(k, *where)
        return q, k, v

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: tokens, (B, N, D).
            mask: None, or bool (N, N) or (B, 1, N, N); True where a query may read a key.
            key_mask: None, or bool (B, N); True where anybody may read the token.
            positions: (N, A), for a :class:`Rope`.

        Returns:
            (B, N, D).
        """
        out = attend(*self.heads(x, positions), mask, key_mask)  # (B, h, N, d)
        return self.proj(merge_heads(out))


class CrossAttention(Heads):
    """Tokens read a context, not each other; no positions.

    Args:
        dim: channels D of the tokens that read.
        num_heads: h.
        context_dim: channels C of the context; D if None.
        bias: on the three projections.
        heads: ``head_dim``, ``kv_heads``, ``qk_norm``, ``qk_full``, ``per_head`` of :class:`Heads`.

    Raises:
        ValueError: if heads do not divide.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        context_dim: int | None = None,
        bias: bool = True,
        **heads,
    ):
        super().__init__(dim, num_heads, **heads)
        inner, context_dim = num_heads * self.head_dim, context_dim or dim
        self.query = nn.Linear(dim, inner, bias=bias)
        self.key_value = nn.Linear(context_dim, 2 * self.kv_heads * self.head_dim, bias=bias)
        self._add_norms()
        self.proj = nn.Linear(inner, dim, bias=bias)

    def forward(self, x: Tensor, context: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: tokens that read, (B, N, D).
            context: what they read, (B, M, C).
            key_mask: None, or bool (B, M), True where there is something to read.

        Returns:
            (B, N, D).
        """
        q = split_heads(self.query(x), self.num_heads)  # (B, h, N, d)
        k, v = self._split(self.key_value(context), [self.kv_heads] * 2)  # (B, g, M, d)
        q, k = self._normed(q, k)
        return self.proj(merge_heads(attend(q, k, v, key_mask=key_mask)))
