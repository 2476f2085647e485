"""DiT^DH: a diffusion transformer with a wide, shallow head (RAE: Zheng et al. 2025, section 4).

The head comes from DDT (Wang et al. 2025). A backbone M of moderate width reads the noisy latent;
what it says is not decoded but steers a second, short and wide transformer H that reads the same
noisy latent again:

    s = M(x_t | t, y),    v = H(x_t | s, t).

Width is what tokens of many channels need, and two wide layers are cheaper than thirty. Details are
those of the public code. The blocks are LightningDiT's (Yao et al. 2025); in the head each token
has its own modulation, made of its own s.

Shapes: B batch, C latent channels, g g latent grid, N = g^2 tokens, D width of M, H of the head.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from gentok.base.lightning_dit import (
    FinalLayer,
    FourierTimeEmbedding,
    LightningBlock,
    LightningDiTConfig,
)
from gentok.nn.position import AxialRope2d, LabelEmbedding, check_label, sincos_2d


class DDT(nn.Module):
    """Velocity of noisy latents from a backbone and a head.

    Args:
        config: sizes of the backbone and of the latents; its ``patch_size`` must be 1.
        head_dim, head_depth, head_heads: width H, blocks and attention heads of the head.

    Raises:
        ValueError: if the patches are larger than one latent cell.
    """

    def __init__(self, config: LightningDiTConfig, head_dim: int, head_depth: int, head_heads: int):
        super().__init__()
        if config.patch_size != 1:
            raise ValueError(f"DiT^DH needs patch_size 1, got {config.patch_size}")
        self.config = config
        c, dim, grid = config.in_channels, config.dim, config.input_size
        self.s_embed = nn.Linear(c, dim)
        table = sincos_2d(grid, grid, dim)[None]  # (1, N, D)
        self.position = nn.Parameter(table, requires_grad=False)
        self.time = FourierTimeEmbedding(dim)
        self.label = LabelEmbedding(config.num_classes, dim, config.label_drop)
        rope = AxialRope2d(grid, grid, dim // config.num_heads)
        self.backbone = nn.ModuleList(
            LightningBlock(dim, config.num_heads, rope) for _ in range(config.depth)
        )
        self.s_project = nn.Linear(dim, head_dim) if dim != head_dim else nn.Identity()
        self.x_embed = nn.Linear(c, head_dim)
        head_rope = AxialRope2d(grid, grid, head_dim // head_heads)
        self.head = nn.ModuleList(
            LightningBlock(head_dim, head_heads, head_rope) for _ in range(head_depth)
        )
        self.final = FinalLayer(head_dim, c)
        self._initialise()

    def _initialise(self) -> None:
        """Zero modulations (`Modulation` does that) and last layer; small time and label vectors.

        The other linear layers keep PyTorch's own start, unlike LightningDiT's.
        """
        for embed in (self.s_embed, self.x_embed):
            nn.init.xavier_uniform_(embed.weight)
            nn.init.zeros_(embed.bias)
        for layer in (self.time.mlp[0], self.time.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.final.linear.weight)
        nn.init.zeros_(self.final.linear.bias)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            x: standardised noisy latents, (B, C, g, g).
            t: times in [0, 1], (B,), 0 = noise.
            label: classes, (B,) int64 in [0, num_classes]; num_classes means "no class".

        Returns:
            velocity data - noise, (B, C, g, g).

        Raises:
            ValueError: if a shape, dtype or label is not as above.
        """
        config = self.config
        if x.shape[1:] != (config.in_channels, config.input_size, config.input_size):
            raise ValueError(
                f"x must be (B, {config.in_channels}, {config.input_size}, {config.input_size}), "
                f"got {tuple(x.shape)}"
            )
        check_label(label, config.num_classes)
        cells = x.flatten(2).transpose(1, 2)  # (B, N, C)
        s = self.condition(cells, t, label)  # (B, N, H)
        # The head reads x_t itself, without an added position: s only modulates.
        tokens = self.x_embed(cells)  # (B, N, H)
        for block in self.head:
            tokens = block(tokens, s)
        return self.final(tokens, s).transpose(1, 2).unflatten(2, x.shape[2:])

    def condition(self, cells: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """s: what the backbone says about each token, (B, N, C) -> (B, N, H)."""
        time = self.time(t)  # (B, D)
        c = F.silu(time + self.label(label))  # each modulation applies its own SiLU once more
        s = self.s_embed(cells) + self.position
        for block in self.backbone:
            s = block(s, c)
        return self.s_project(F.silu(time[:, None] + s))
