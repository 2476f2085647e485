"""The ViT that RAE trains: tokens of a frozen encoder to pixels (Zheng et al. 2025, 3.1).

Layer by layer the decoder of MAE (He et al. 2022), as the public code takes it over: LayerNorm with
epsilon 1e-12, exact GELU, full attention. A [CLS] token of its own, which starts at 0, stands first
and is dropped at the end.

Shapes: B batch, C channels of a latent token, g g grid of N = g^2 tokens, h width, p patch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.blocks import vit_blocks
from gentok.nn.position import sincos_2d
from gentok.nn.transformer import init_linears_xavier


class ViTDecoder(nn.Module):
    """Tokens to patches of pixels: MAE's decoder with a [CLS] token of its own.

    Linear layers start Xavier-uniform as MAE's do (neither paper nor code state another start).

    Args:
        channels: C of a token.
        grid: g, tokens along one side.
        patch_size: p, pixels that a token becomes along one side.
        dim, depth, num_heads, hidden: width h, blocks, attention heads, width of the MLP.
    """

    def __init__(
        self,
        channels: int,
        grid: int,
        patch_size: int,
        dim: int,
        depth: int,
        num_heads: int,
        hidden: int,
    ):
        super().__init__()
        self.grid, self.patch_size = grid, patch_size
        self.embed = nn.Linear(channels, dim)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        table = torch.cat([torch.zeros(1, dim), sincos_2d(grid, grid, dim)])[None]  # (1, 1 + N, h)
        self.position = nn.Parameter(table, requires_grad=False)  # fixed
        self.blocks = vit_blocks(dim, depth, num_heads, hidden, eps=1e-12)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.head = nn.Linear(dim, patch_size * patch_size * 3)
        init_linears_xavier(self)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (B, C, g, g) -> normalised pixels (B, 3, H, W)."""
        grid = self.grid
        if z.shape[-2:] != (grid, grid):
            z = F.interpolate(z, size=(grid, grid), mode="bilinear", align_corners=False)
        x = self.embed(z.flatten(2).transpose(1, 2))  # (B, N, h)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        return self._unpatchify(self.head(self.norm(x))[:, 1:])

    def _unpatchify(self, x: Tensor) -> Tensor:
        """(B, N, p p 3) -> (B, 3, g p, g p)."""
        p, grid = self.patch_size, self.grid
        x = x.unflatten(2, (p, p, 3)).unflatten(1, (grid, grid))  # (B, g, g, p, p, 3)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
