"""Causal attention that knows distances and not places (Dai et al. 2019, Transformer-XL, 3.3).

The score of query a on key b is the sum of four terms, two of content and two of distance:

    A_ab = ((q_a + u) . k_b + (q_a + v) . W_R R_{a-b}) / sqrt(d)

R_n is the sine-cosine vector of the number n; u and v are learned vectors that all layers of a
stack share. Nothing in it depends on a or b alone, so a longer clip shows the network no position
it has not seen, only distances. The recurrence over segments of Transformer-XL is not used here,
as it is not in Mogo.

Shapes: B batch, N new tokens, M all tokens so far, D channels, h heads, d = D / h.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.attention import merge_heads, split_heads
from gentok.nn.blocks import PostNormBlock
from gentok.nn.causal import KVCache, causal_attention
from gentok.nn.position import sincos_1d


class RelativeCache(KVCache):
    """Keys, values, and the projected distances W_R R_n of one layer, for sampling.

    Keys carry no position, so those of old tokens stay right whatever comes after.
    """

    def __init__(self):
        super().__init__()
        self.table: Tensor | None = None  # (h, L, d), distance 0 first

    def distances(self, count: int, project: Callable[[Tensor], Tensor]) -> Tensor:
        """W_R R_n for n = count - 1 down to 0, (h, count, d); computed once per distance."""
        if self.table is None or self.table.shape[1] < count:
            far = torch.arange(2 * count, device=self.keys.device)  # room for as many again
            self.table = project(far)
        return self.table[:, :count].flip(1)


def relative_shift(scores: Tensor) -> Tensor:
    """Sort scores by key instead of by distance.

    Args:
        scores: (..., N, M); column j belongs to distance M - 1 - j. The queries are the last N of
            M tokens.

    Returns:
        (..., N, M): column b of row n belongs to key b. Entries of keys that come after the query
        are meaningless and must be masked.
    """
    n, m = scores.shape[-2:]
    padded = F.pad(scores, (1, 0))  # (..., N, M + 1)
    # Read with rows of N instead of M + 1: each row starts one entry later than the one before.
    return padded.reshape(*scores.shape[:-2], m + 1, n)[..., 1:, :].reshape(scores.shape)


class RelativeAttention(nn.Module):
    """Causal self-attention with relative positions, or with none.

    Args:
        dim: D; ``num_heads``: h, a divisor of D with even D.
        dropout: of the attention weights and of the distance vectors, in training.
        relative: False leaves distances out: tokens must say themselves where they stand.

    Raises:
        ValueError: if ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0, relative: bool = True):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got num_heads={num_heads}, dim={dim}")
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.relative = nn.Linear(dim, dim, bias=False) if relative else None  # W_R

    def forward(
        self, x: Tensor, u: Tensor | None, v: Tensor | None, cache: RelativeCache | None = None
    ) -> Tensor:
        """Attend.

        Args:
            x: the new tokens, (B, N, D).
            u, v: the biases of content and of distance, (h, d); None where distances are left out.
            cache: what came before; the new tokens are added to it.

        Returns:
            (B, N, D).
        """
        q, k, value = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, -1))
        if cache is not None:
            k, value = cache.append(k, value)
        if self.relative is None:
            return self.proj(merge_heads(causal_attention(q, k, value)))
        bias = self.distance_scores(q + v[:, None], k.shape[2], cache)  # (B, h, N, M)
        out = F.scaled_dot_product_attention(
            q + u[:, None], k, value, bias, dropout_p=self.dropout if self.training else 0.0
        )
        return self.proj(merge_heads(out))

    def distance_scores(self, q: Tensor, total: int, cache: RelativeCache | None = None) -> Tensor:
        """Scaled scores of distance with the causal mask, what the fused kernel adds to q . k.

        Args:
            q: queries plus v, (B, h, N, d), the last N of ``total`` = M tokens.

        Returns:
            (B, h, N, M); -inf at keys after the query.
        """
        if cache is None:
            r = self.project(torch.arange(total - 1, -1, -1, device=q.device))
        else:
            r = cache.distances(total, self.project)  # (h, M, d), the largest distance first
        scores = relative_shift(q @ r.mT) * q.shape[-1] ** -0.5
        new = q.shape[2]
        seen = torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
        return scores.masked_fill(~seen, -torch.inf)

    def project(self, distance: Tensor) -> Tensor:
        """Distances (L,) in tokens -> W_R R, (h, L, d)."""
        table = sincos_1d(distance, self.relative.in_features).to(self.relative.weight.dtype)
        table = F.dropout(table, self.dropout, self.training)
        return split_heads(self.relative(table)[None], self.num_heads)[0]


def feed_forward(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    """The second branch of a block: Linear, GELU, dropout, Linear; (B, N, D) -> (B, N, D)."""
    return nn.Sequential(
        nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
    )


class RelativeTransformer(nn.Module):
    """A stack of post-norm blocks that shares u and v.

    Args:
        dim, num_heads, mlp_ratio, dropout: of each block; ``depth``: number of blocks.
        relative: False leaves distances out, and u, v and W_R with them.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: int = 4,
        dropout: float = 0.0,
        relative: bool = True,
    ):
        super().__init__()
        self.blocks = nn.ModuleList(
            PostNormBlock(
                dim,
                RelativeAttention(dim, num_heads, dropout, relative),
                feed_forward(dim, mlp_ratio * dim, dropout),
                dropout=dropout,
            )
            for _ in range(depth)
        )
        shape = (num_heads, dim // num_heads)
        self.u = nn.Parameter(0.02 * torch.randn(shape)) if relative else None
        self.v = nn.Parameter(0.02 * torch.randn(shape)) if relative else None
        self.dropout = nn.Dropout(dropout)

    def start(self) -> list[RelativeCache]:
        """Empty caches, one a block."""
        return [RelativeCache() for _ in self.blocks]

    def forward(self, x: Tensor, caches: list[RelativeCache] | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = self.dropout(x)
        for block, cache in zip(self.blocks, caches or [None] * len(self.blocks), strict=True):
            x = block(x, self.u, self.v, cache)
        return self.dropout(x)
