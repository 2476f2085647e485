"""The transformer blocks of this book: pre-norm, post-norm, and adaLN-Zero.

A block adds two branches to its tokens, an attention and a feed-forward layer. What the branches
are is the caller's: any module whose first argument is the tokens. Where the norm stands, and what
shifts, scales and gates the branches, is what the classes here differ in.

Pre-norm: Xiong et al. 2020. Post-norm: Vaswani et al. 2017. LayerScale: Touvron et al. 2021 (CaiT).
adaLN-Zero: Peebles and Xie 2023 (DiT), 3.2.

Shapes: B batch, N tokens, D channels. Tokens are (B, N, D), or (B, ..., D) where the attention
takes grids.
"""

import torch
from torch import Tensor, nn

from gentok.nn.attention import MakeNorm, SelfAttention
from gentok.nn.stochastic_depth import DropPath, drop_rates
from gentok.nn.transformer import Mlp, Modulation, modulate, per_token


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch; small at first, so that depth comes slowly."""

    def __init__(self, dim: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return x * self.gamma


class PreNormBlock(nn.Module):
    """x + Attention(norm x), then x + MLP(norm x).

    Args:
        dim: channels D.
        attention, mlp: the branches.
        eps: of both layer norms.
        drop_path: rate of stochastic depth; ``dropout``: on what the branches give.
        layer_scale: what the factors of both branches start from; None leaves them out.
    """

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        mlp: nn.Module,
        eps: float = 1e-6,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = mlp
        self.scale1 = self.scale2 = None
        if layer_scale is not None:
            self.scale1, self.scale2 = LayerScale(dim, layer_scale), LayerScale(dim, layer_scale)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def attend(self, x: Tensor, *args) -> Tensor:
        """The first half: (B, N, D) -> (B, N, D); ``args`` reach the attention."""
        return x + self._branch(self.attention(self.norm1(x), *args), self.scale1)

    def feed(self, x: Tensor) -> Tensor:
        """The second half: (B, N, D) -> (B, N, D)."""
        return x + self._branch(self.mlp(self.norm2(x)), self.scale2)

    def forward(self, x: Tensor, *args) -> Tensor:
        """(B, N, D) -> (B, N, D); ``args`` reach the attention (a mask, a grid's size)."""
        return self.feed(self.attend(x, *args))

    def _branch(self, x: Tensor, scale: LayerScale | None) -> Tensor:
        return self.drop_path(self.dropout(x if scale is None else scale(x)))


class PostNormBlock(nn.Module):
    """norm(x + Attention x), then norm(x + MLP x), as in the first transformers.

    Args:
        dim: channels D.
        attention, mlp: the branches.
        eps: of both layer norms.
        dropout: on what the branches give.
    """

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        mlp: nn.Module,
        eps: float = 1e-5,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.attention = attention
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.mlp = mlp
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *args) -> Tensor:
        """(B, N, D) -> (B, N, D); ``args`` reach the attention."""
        x = self.norm1(x + self.dropout(self.attention(x, *args)))
        return self.norm2(x + self.dropout(self.mlp(x)))


def plain_norm(dim: int) -> nn.LayerNorm:
    """LayerNorm without weights: a modulation follows, which has them."""
    return nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)


Turn = tuple[Tensor, Tensor, Tensor]  # shift, scale and gate of one branch


class AdaLNBlock(nn.Module):
    """Both branches shifted, scaled and gated by a condition; gates are zero at first.

    Args:
        dim: channels D.
        attention, mlp: the branches.
        norm: makes both norms from D; DiT's is a LayerNorm without weights.
        count: vectors that the condition is mapped to; more than six are for subclasses.
    """

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        mlp: nn.Module,
        norm: MakeNorm = plain_norm,
        count: int = 6,
    ):
        super().__init__()
        self.norm1 = norm(dim)
        self.attention = attention
        self.norm2 = norm(dim)
        self.mlp = mlp
        self.modulation = Modulation(dim, count)

    def attend(self, x: Tensor, turn: Turn, *args) -> Tensor:
        """x + gate Attention((1 + scale) norm x + shift); ``args`` reach the attention."""
        shift, scale, gate = turn
        attended = self.attention(modulate(self.norm1(x), shift, scale), *args)
        return x + per_token(gate, x) * attended

    def feed(self, x: Tensor, turn: Turn) -> Tensor:
        """x + gate MLP((1 + scale) norm x + shift)."""
        shift, scale, gate = turn
        return x + per_token(gate, x) * self.mlp(modulate(self.norm2(x), shift, scale))

    def forward(self, x: Tensor, c: Tensor, *args) -> Tensor:
        """Tokens (B, N, D) and a condition a sample (B, D), or a token (B, N, D) -> (B, N, D)."""
        parts = self.modulation(c)
        return self.feed(self.attend(x, parts[:3], *args), parts[3:])


def vit_blocks(
    dim: int,
    depth: int,
    num_heads: int,
    hidden: int,
    *,
    eps: float = 1e-6,
    drop_path: float = 0.0,
    qkv_bias: bool = True,
    layer_scale: float | None = None,
) -> nn.ModuleList:
    """Blocks of a vision transformer: self-attention and an MLP with the exact GELU.

    Args:
        dim: channels D; ``hidden``: width of the MLPs.
        depth: how many blocks; stochastic depth rises linearly from 0 to ``drop_path``.
        num_heads, qkv_bias: of the attention; ``eps``, ``layer_scale``: of the blocks.
    """

    def block(rate: float) -> PreNormBlock:
        attention = SelfAttention(dim, num_heads, qkv_bias)
        mlp = Mlp(dim, hidden, approximate="none")
        return PreNormBlock(dim, attention, mlp, eps, rate, layer_scale=layer_scale)

    return nn.ModuleList(block(rate) for rate in drop_rates(drop_path, depth))
