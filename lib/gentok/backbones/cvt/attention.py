"""Attention whose queries, keys and values come from depth-wise convolutions (CvT, section 3.2).

Wu et al. 2021 (arXiv:2103.15808). The scale and the way of the class token
follow the authors' code.

Shapes: B batch, C channels, H W grid, N = H W tokens (one more with the class token), M keys, h
heads, d = C / h.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.attention import merge_heads, split_heads
from gentok.nn.ghost_norm import GhostBatchNorm2d

PROJECTIONS = ("dw_bn", "linear")


class DepthwiseProjection(nn.Module):
    """Depth-wise 3x3 convolution without bias, then batch norm: each channel looks around itself.

    On odd grids a stride of 2 rounds up: 7 -> 4. A batch in parts is normalised part by part, as in
    the authors' training, where each GPU saw its own share.
    """

    def __init__(self, dim: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, stride, padding=1, groups=dim, bias=False)
        self.norm = GhostBatchNorm2d(dim)

    def forward(self, grid: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, H W, C) -> (B, ceil(H/stride) ceil(W/stride), C)."""
        x = self.norm(self.conv(grid.transpose(1, 2).unflatten(2, size)))
        return x.flatten(2).transpose(1, 2)


class ConvAttention(nn.Module):
    """Attention whose queries, keys and values come from convolutions.

    Args:
        dim: C.
        num_heads: h; must divide ``dim``.
        projection: ``"dw_bn"`` or ``"linear"``.
        kv_stride: stride of the keys' and values' convolutions.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, dim: int, num_heads: int, projection: str = "dw_bn", kv_stride: int = 2):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide widths, got {num_heads} heads, width {dim}")
        if projection not in PROJECTIONS:
            raise ValueError(f"unknown projection {projection!r}; accepted: {PROJECTIONS}")
        if kv_stride < 1:
            raise ValueError(f"kv_stride must be at least 1, got {kv_stride}")
        self.num_heads = num_heads
        self.scale = dim**-0.5  # of the full width, not of a head: the released weights expect it
        if projection == "dw_bn":
            self.query_conv = DepthwiseProjection(dim, 1)
            self.key_conv = DepthwiseProjection(dim, kv_stride)
            self.value_conv = DepthwiseProjection(dim, kv_stride)
        else:
            self.query_conv = self.key_conv = self.value_conv = None
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def heads(self, x: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, N, C) -> queries (B, h, N, d), keys and values (B, h, M, d).

        A class token stands before the grid. It joins queries, keys and values as it is: a
        convolution would need a place for it.
        """
        cells = size[0] * size[1]
        token, grid = x.split([x.shape[1] - cells, cells], dim=1)  # (B, 0 or 1, C), (B, H W, C)
        parts = []
        for conv, linear in (
            (self.query_conv, self.query),
            (self.key_conv, self.key),
            (self.value_conv, self.value),
        ):
            looked = grid if conv is None else conv(grid, size)
            parts.append(split_heads(linear(torch.cat([token, looked], dim=1)), self.num_heads))
        return tuple(parts)

    def weights(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """The attention matrix itself, (B, h, N, M); rows add up to 1. For looking, not for use."""
        q, k, _ = self.heads(x, size)
        return (q @ k.mT * self.scale).softmax(-1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, N, C) of a grid (H, W) -> (B, N, C)."""
        q, k, v = self.heads(x, size)
        out = F.scaled_dot_product_attention(q, k, v, scale=self.scale)  # (B, h, N, d)
        return self.proj(merge_heads(out))
