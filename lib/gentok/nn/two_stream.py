"""A block of two streams that share one attention (Esser et al. 2024, SD3; LaVin-DiT 2024).

What is given (context) and what is being made (target) have weights of their own and are read
together: queries, keys and values of both stand in one row. Norms before and after each branch, a
scale and a bounded gate from each stream's condition, no shift: the form of LaVin-DiT.

Shapes: B batch, M context tokens, N target tokens, D channels, h heads, g heads of keys and values.
"""

import torch
from torch import Tensor, nn

from gentok.nn.attention import SelfAttention, attend, merge_heads
from gentok.nn.norm import RMSNorm
from gentok.nn.rope import Rope
from gentok.nn.transformer import Modulation, SwiGLU, per_token


class Stream(nn.Module):
    """The weights of one stream: projections of the shared attention, SwiGLU, modulation.

    Args:
        dim: D; ``hidden``: width of the SwiGLU.
        num_heads, kv_heads: h and g.
        rope: turns queries and keys by positions that ``TwoStreamBlock.forward`` is told.
    """

    def __init__(self, dim: int, num_heads: int, kv_heads: int, hidden: int, rope: Rope):
        super().__init__()
        norms = {"qk_norm": RMSNorm, "qk_full": True}
        self.attention = SelfAttention(
            dim, num_heads, qkv_bias=False, rope=rope, proj_bias=False, kv_heads=kv_heads, **norms
        )
        self.mlp = SwiGLU(dim, hidden, bias=False)
        self.modulation = Modulation(dim, 4)
        self.norm = RMSNorm(dim, affine=False)  # before and after both branches: no weights

    def scaled(self, x: Tensor, scale: Tensor) -> Tensor:
        """RMS(x) (1 + scale), what a branch reads: (B, N, D) -> (B, N, D)."""
        return self.norm(x) * (1 + per_token(scale, x))

    def gated(self, x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
        """x + tanh(gate) RMS(branch): (B, N, D) -> (B, N, D)."""
        return x + per_token(gate, x).tanh() * self.norm(branch)


class TwoStreamBlock(nn.Module):
    """Joint attention of context and target, then a feed-forward layer for each.

    Args:
        dim: D.
        num_heads, kv_heads: h and g, a divisor of h.
        hidden: width of both SwiGLUs.
        rope: rotary embedding of one, two or three axes.

    Raises:
        ValueError: if heads do not divide.
    """

    def __init__(self, dim: int, num_heads: int, kv_heads: int, hidden: int, rope: Rope):
        super().__init__()
        self.context = Stream(dim, num_heads, kv_heads, hidden, rope)
        self.target = Stream(dim, num_heads, kv_heads, hidden, rope)

    def forward(
        self, context: Tensor, x: Tensor, conditions: tuple[Tensor, Tensor], positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One block.

        Args:
            context: (B, M, D); ``x``: target, (B, N, D).
            conditions: of the context and of the target, (B, D) each.
            positions: of all tokens, the context's first, (M + N, A).

        Returns:
            context and target, (B, M, D) and (B, N, D).
        """
        streams, tokens = (self.context, self.target), [context, x]
        turns = [s.modulation(c) for s, c in zip(streams, conditions, strict=True)]
        branches = self._attend(streams, tokens, [turn[0] for turn in turns], positions)
        for i, (stream, (_, gate1, scale2, gate2)) in enumerate(zip(streams, turns, strict=True)):
            tokens[i] = stream.gated(tokens[i], gate1, branches[i])
            fed = stream.mlp(stream.scaled(tokens[i], scale2))
            tokens[i] = stream.gated(tokens[i], gate2, fed)
        return tokens[0], tokens[1]

    def _attend(
        self,
        streams: tuple[Stream, Stream],
        tokens: list[Tensor],
        scales: list[Tensor],
        positions: Tensor,
    ) -> list[Tensor]:
        """What the shared attention gives to each stream, (B, M, D) and (B, N, D)."""
        lengths = [part.shape[1] for part in tokens]
        rows = [
            stream.attention.heads(stream.scaled(part, scale), where)
            for stream, part, scale, where in zip(
                streams, tokens, scales, positions.split(lengths), strict=True
            )
        ]
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(*rows, strict=True))  # (B, ., M + N, d)
        mixed = merge_heads(attend(q, k, v)).split(lengths, dim=1)
        return [s.attention.proj(part) for s, part in zip(streams, mixed, strict=True)]
