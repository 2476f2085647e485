"""The trunk of a vision transformer (Dosovitskiy et al. 2021), for images, videos or any grid.

Patches, perhaps a class token, positions, pre-norm blocks. On a grid of three axes the patches are
tubelets (Arnab et al. 2021, ViViT). Networks on top of it add their heads.

Shapes: B batch, C channels, sizes (T,) H W, patches (t,) p p, N = (T/t) H/p W/p tokens and perhaps
a class token, D width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.blocks import vit_blocks
from gentok.nn.position import sincos_2d

POSITIONS = ("learned", "sincos", None)
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class VisionTransformer(nn.Module):
    """Patches -> tokens -> blocks -> norm.

    Args:
        size: sides of the input that the position table is made for, (H, W) or (T, H, W).
        patch: sides of a patch, as many; they divide ``size``.
        in_channels: C.
        dim, depth, num_heads: D, blocks and heads; ``hidden``: width of the MLPs, 4 D if None.
        position: ``"learned"`` table, fixed ``"sincos"`` (two axes only), or None.
        class_token: put a learned token, with a place of its own, before the others.
        eps: of all layer norms.
        drop_path: largest rate of stochastic depth; it rises linearly over the blocks.
        init_std: of the truncated normal that tables and the class token start with.

    Raises:
        ValueError: if patches do not divide the input, or an argument is unknown.
    """

    def __init__(
        self,
        size: Sequence[int],
        patch: Sequence[int],
        in_channels: int,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        hidden: int | None = None,
        position: str | None = "learned",
        class_token: bool = True,
        eps: float = 1e-6,
        drop_path: float = 0.0,
        init_std: float = 0.02,
    ):
        super().__init__()
        size, patch = tuple(size), tuple(patch)
        if len(size) != len(patch) or len(size) not in CONVOLUTIONS:
            raise ValueError(f"size and patch must have 1 to 3 equal axes, got {size}, {patch}")
        if any(side % p for side, p in zip(size, patch, strict=True)):
            raise ValueError(f"patch must divide size, got {patch}, {size}")
        if position not in POSITIONS:
            raise ValueError(f"unknown position {position!r}; accepted: {POSITIONS}")
        self.in_channels, self.patch = in_channels, patch
        self.patches = CONVOLUTIONS[len(size)](in_channels, dim, patch, patch)
        self.class_token = None
        if class_token:
            self.class_token = nn.Parameter(torch.empty(1, 1, dim))
            nn.init.trunc_normal_(self.class_token, std=init_std)
        grid = tuple(side // p for side, p in zip(size, patch, strict=True))
        self._add_position(position, grid, dim, init_std)
        self.blocks = vit_blocks(
            dim, depth, num_heads, hidden or 4 * dim, eps=eps, drop_path=drop_path
        )
        self.norm = nn.LayerNorm(dim, eps=eps)

    def _add_position(self, kind: str | None, grid: tuple, dim: int, init_std: float) -> None:
        """Tables (1, D, *grid) and, for the class token, (1, 1, D); a fixed one is a parameter too.

        The class token has a place of its own: so the grid's table can be resized.
        """
        self.position = self.class_position = None
        if kind == "sincos":
            if len(grid) != 2:
                raise ValueError(f"position 'sincos' needs two axes, got a grid of {grid}")
            table = sincos_2d(*grid, dim).T.unflatten(1, grid)[None]
            self.position = nn.Parameter(table, requires_grad=False)
        if kind == "learned":
            self.position = nn.Parameter(torch.empty(1, dim, *grid))
            nn.init.trunc_normal_(self.position, std=init_std)
            if self.class_token is not None:
                self.class_position = nn.Parameter(torch.empty(1, 1, dim))
                nn.init.trunc_normal_(self.class_position, std=init_std)

    def tokens(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Input (B, C, (T,) H, W) -> tokens (B, N, D), the class token first, and the grid.

        Pixels that do not fill a patch are left out. On another grid than that of training the
        table is resized by bicubic interpolation, as DeiT does for fine-tuning.

        Raises:
            ValueError: if the channels or axes do not fit, or a side is below one patch.
        """
        self._check(x)
        x = self.patches(x)  # (B, D, *grid)
        grid, token = tuple(x.shape[2:]), self.class_token
        if self.position is not None:
            x = x + self._table(grid)
        if self.class_position is not None:
            token = token + self.class_position
        x = x.flatten(2).transpose(1, 2)  # (B, N, D)
        if token is None:
            return x.contiguous(), grid
        return torch.cat([token.expand(len(x), -1, -1), x], dim=1), grid

    def _table(self, grid: tuple[int, ...]) -> Tensor:
        """Positions of a grid, (1, D, *grid)."""
        if self.position.shape[2:] == grid:
            return self.position
        if len(grid) != 2:
            raise ValueError(
                f"positions are for a grid of {tuple(self.position.shape[2:])}, got {grid}"
            )
        return F.interpolate(self.position, grid, mode="bicubic")

    def encode(self, x: Tensor) -> Tensor:
        """Input (B, C, (T,) H, W) -> normalised tokens (B, N, D), the class token first."""
        x, _ = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`encode`; networks with a head override this one."""
        return self.encode(x)

    def _check(self, x: Tensor) -> None:
        axes = len(self.patch)
        fits = x.ndim == 2 + axes and x.shape[1] == self.in_channels
        if not fits or any(side < p for side, p in zip(x.shape[2:], self.patch, strict=True)):
            raise ValueError(
                f"input must be (B, {self.in_channels}, ...) with {axes} sides of at least "
                f"{self.patch}, got {tuple(x.shape)}"
            )
