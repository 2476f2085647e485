"""The transformer that ViTok uses four times: in both halves of the tokenizer and in its generator.

Pre-norm blocks as in Llama (Touvron et al. 2023): rotary positions in every layer, a gated
feed-forward layer, no bias on queries, keys and values. As in ViTok's public code the norms are
LayerNorms, the gate is a GELU, and positions count tokens in raster order; the paper's text has
SiLU and positions along the axes of the grid. Both can be had.

Shapes: B batch, N = t h w tokens in raster order, D width, d channels of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gentok.nn.attention import SelfAttention
from gentok.nn.blocks import PreNormBlock
from gentok.nn.gated_mlp import GatedMlp
from gentok.nn.rope import Rope, grid_positions, turn_pairs

ROPES = ("1d", "axial", None)
EPS = 1e-5  # of all layer norms
Grid = tuple[int, int, int]  # t, h, w; t is 1 for images


@dataclass(frozen=True)
class StackConfig:
    """Width, depth and heads of one stack of blocks."""

    dim: int
    depth: int
    num_heads: int

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layers."""
        return int(2.67 * self.dim)


class Turn(nn.Module):
    """Turns queries or keys by a table that the whole stack shares."""

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        """(B, h, N, d) and the table, (N, d/2, 2) -> (B, h, N, d)."""
        return turn_pairs(x, turns)


class GridRope(nn.Module):
    """The table of turns of a grid.

    Args:
        head_dim: d.
        kind: ``"1d"``: by the number of the token; ``"axial"``: by its place on each axis.
        axes: 2 for images (first half of the pairs by column, second by row), 3 for video (about
            three eighths by column, three by row, the rest by time).

    Raises:
        ValueError: if d cannot be shared out in even parts.
    """

    def __init__(self, head_dim: int, kind: str, axes: int = 2):
        super().__init__()
        self.kind = kind
        parts = (head_dim,)
        if kind == "axial":
            space = head_dim // 2 if axes == 2 else 2 * (3 * head_dim // 16)
            parts = (space, space, head_dim - 2 * space)[:axes]
        self.rope = Rope(parts)

    def forward(self, grid: Grid, device: torch.device | None = None) -> Tensor:
        """Cosine and sine of each pair's angle, (N, d/2, 2)."""
        if self.kind == "1d":
            places = torch.arange(grid[0] * grid[1] * grid[2], device=device)[:, None]
        else:  # columns first, then rows, then frames
            places = grid_positions(*grid, device=device).flip(1)[:, : len(self.rope.axis_dims)]
        angles = self.rope.angles(places)
        return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def attention(size: StackConfig, turned: bool) -> SelfAttention:
    """Self-attention of a block: no bias but on the output."""
    turn = Turn() if turned else None
    return SelfAttention(size.dim, size.num_heads, qkv_bias=False, rope=turn)


class Stack(nn.Module):
    """Blocks and a last norm.

    Args:
        size: of the stack; ``gate``: of its feed-forward layers.
        rope: ``"1d"``, ``"axial"``, or None: then no token knows where it stands.
        axes: 2 for images, 3 for video.

    Raises:
        ValueError: if ``rope`` or ``gate`` is unknown, or heads do not divide.
    """

    def __init__(self, size: StackConfig, gate: str, rope: str | None, axes: int = 2):
        super().__init__()
        if rope not in ROPES:
            raise ValueError(f"unknown rope {rope!r}; accepted: {ROPES}")
        self.rope = GridRope(size.dim // size.num_heads, rope, axes) if rope else None
        self.blocks = nn.ModuleList(
            PreNormBlock(
                size.dim,
                attention(size, rope is not None),
                GatedMlp(size.dim, size.hidden, gate),
                eps=EPS,
            )
            for _ in range(size.depth)
        )
        self.norm = nn.LayerNorm(size.dim, eps=EPS)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, N, D) of a grid -> (B, N, D); every token reads every other."""
        turns = None if self.rope is None else self.rope(grid, x.device)
        for block in self.blocks:
            x = block(x, None, None, turns)
        return self.norm(x)


def video_positions(grid: Grid, dim: int, device: torch.device | None = None) -> Tensor:
    """Fixed sines and cosines of frame, column and row, added to the tokens of video.

    Returns:
        (N, D): [sin t, cos t, sin x, cos x, sin y, cos y], D/6 each, with the frequencies
        10000^(-i / (D/6 - 1)) of the public code.

    Raises:
        ValueError: if ``dim`` is not a multiple of 6 above 6.
    """
    if dim % 6 or dim <= 6:
        raise ValueError(f"dim must be a multiple of 6 above 6, got {dim}")
    part = dim // 6
    frequencies = 10000.0 ** (-torch.arange(part, device=device) / (part - 1))
    t, y, x = grid_positions(*grid, device=device).T  # (N,) each
    angles = [axis[:, None] * frequencies for axis in (t, x, y)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=-1)
