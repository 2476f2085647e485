"""Attention along one axis of a grid, its block, and the shifts that make it causal.

Ho, Kalchbrenner, Weissenborn and Salimans 2019 (Axial Transformer, arXiv:1912.12180), sections 2
and 3. Where the paper is silent the released code decides: MLPs as wide as the stream, the sigmoid
form of GELU, residual branches that start at almost zero.

Shapes: B batch, H W grid, D channels, h heads, d = D / h. Every grid is (B, H, W, D).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.attention import SelfAttention, merge_heads
from gentok.nn.blocks import PreNormBlock
from gentok.nn.transformer import Mlp

COLUMN, ROW = 1, 2  # the axis of (B, H, W, D) along which a layer attends
ALMOST_ZERO = 1e-10  # variance scale of whatever ends a residual branch, and of the logits


class AxialAttention(SelfAttention):
    """Self-attention inside each row, or inside each column; the other axis is part of the batch.

    Args:
        dim: channels D.
        num_heads: h; must divide ``dim``.
        axis: ``ROW`` (pixels of one row read each other) or ``COLUMN``.
        causal: read only positions up to and *including* one's own. The shifts of the decoder, and
            not this mask, keep a pixel from itself.

    Raises:
        ValueError: if ``num_heads`` does not divide ``dim``, or ``axis`` is neither of the two.
    """

    def __init__(self, dim: int, num_heads: int, axis: int, causal: bool = False):
        super().__init__(dim, num_heads)
        if axis not in (COLUMN, ROW):
            raise ValueError(f"axis must be {COLUMN} (columns) or {ROW} (rows), got {axis}")
        self.axis = axis
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, H, W, D)."""
        lines = x.transpose(1, 2) if self.axis == COLUMN else x  # (B, lines, length, D)
        q, k, v = self.heads(lines.flatten(0, 1))  # (B lines, h, length, d)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out = self.proj(merge_heads(out)).unflatten(0, lines.shape[:2])
        return out.transpose(1, 2) if self.axis == COLUMN else out


class Block(PreNormBlock):
    """Pre-norm residual block: x + drop(attention(LN x)), then x + drop(MLP(LN x)).

    Args:
        attention: any attention on grids (B, H, W, D) with an output projection ``proj``.
        dim: channels D.
        mlp_ratio: hidden width of the MLP over D.
        dropout: on both branches.
    """

    def __init__(self, attention: nn.Module, dim: int, mlp_ratio: int = 1, dropout: float = 0.0):
        mlp = Mlp(dim, mlp_ratio * dim, approximate="quick")
        super().__init__(dim, attention, mlp, eps=1e-5, dropout=dropout)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                init_fan_in(layer)
        for last in (self.attention.proj, self.mlp.fc2):
            init_fan_in(last, ALMOST_ZERO)  # the block starts as the identity


class GridPosition(nn.Module):
    """Learned additive positions: one vector a row plus one vector a column."""

    def __init__(self, height: int, width: int, dim: int):
        super().__init__()
        self.rows = nn.Parameter(torch.empty(height, dim))
        self.columns = nn.Parameter(torch.empty(width, dim))
        # The scale of the token embeddings; what the positions start from is not stated.
        init_embedding(self.rows)
        init_embedding(self.columns)

    def forward(self) -> Tensor:
        """(H, W, D)."""
        return self.rows[:, None] + self.columns[None]


def shift(x: Tensor, axis: int) -> Tensor:
    """Move a grid one place down (``COLUMN``) or right (``ROW``); zeros enter, the last line drops.

    Afterwards position i holds what i - 1 knew: that is what makes an inclusive mask causal.

    Args:
        x: (B, H, W, D).

    Returns:
        the same shape.
    """
    kept = x.narrow(axis, 0, x.shape[axis] - 1)
    return torch.cat([torch.zeros_like(x.narrow(axis, 0, 1)), kept], dim=axis)


def init_fan_in(layer: nn.Linear | nn.Conv2d, scale: float = 1.0) -> None:
    """Variance scaling: weights from N(0, scale / fan-in), biases zero."""
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=(scale / fan_in) ** 0.5)
    nn.init.zeros_(layer.bias)


def init_embedding(table: Tensor) -> None:
    """Rows of norm about 5: N(0, (5 / sqrt(D))^2), the released code's scale."""
    nn.init.normal_(table, std=5 / table.shape[-1] ** 0.5)
