"""Layers of Point-MAE: the tokenizer of patches, and blocks that are told places at every input.

Pang et al. 2022 (arXiv:2203.06604), 3.1 and 3.2. Widths and biases follow the authors' released
code.

Shapes: B batch, G patches, k points of a patch, N tokens, D channels.
"""

import torch
from torch import Tensor, nn

from gentok.nn.blocks import vit_blocks


class Transformer(nn.Module):
    """Blocks that are told the positions anew at every input: x = block(x + position)."""

    def __init__(self, dim: int, depth: int, num_heads: int, mlp_ratio: int, drop_path: float):
        super().__init__()
        # Queries, keys and values have no bias (as in the code).
        self.blocks = vit_blocks(
            *(dim, depth, num_heads, mlp_ratio * dim), eps=1e-5, drop_path=drop_path, qkv_bias=False
        )
        self.norm = nn.LayerNorm(dim)

    def levels(self, x: Tensor, position: Tensor) -> list[Tensor]:
        """The output of every block, each (B, N, D), before the norm."""
        outputs = []
        for block in self.blocks:
            x = block(x + position)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Tokens and position embeddings, both (B, N, D) -> (B, N, D)."""
        return self.norm(self.levels(x, position)[-1])


class PatchTokenizer(nn.Module):
    """Mini-PointNet: a patch of points, in any order, becomes one token.

    Every point passes an MLP; the maximum over points is joined to each of them; a second MLP and
    a second maximum follow. Convolutions of width 1 in the code are the linear layers here.
    """

    def __init__(self, widths: tuple[int, int, int], dim: int):
        super().__init__()
        a, b, c = widths
        self.norm1, self.norm2 = nn.BatchNorm1d(a), nn.BatchNorm1d(c)
        self.first = nn.Sequential(nn.Linear(3, a), self.norm1, nn.ReLU(), nn.Linear(a, b))
        self.second = nn.Sequential(nn.Linear(2 * b, c), self.norm2, nn.ReLU(), nn.Linear(c, dim))

    def forward(self, patches: Tensor) -> Tensor:
        """Points relative to their centres, (B, G, k, 3) -> tokens (B, G, D)."""
        b, g, k, _ = patches.shape
        points = self.first(patches.reshape(-1, 3)).view(b * g, k, -1)  # (B G, k, b)
        whole = points.amax(1, keepdim=True).expand_as(points)
        joined = torch.cat([whole, points], dim=-1)  # the maximum first
        return self.second(joined.flatten(0, 1)).view(b, g, k, -1).amax(2)


def position_mlp(hidden: int, dim: int) -> nn.Sequential:
    """Centre (..., 3) -> position embedding (..., D)."""
    return nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, dim))
