"""The diffusion transformer on ViTok's codes: one token a code vector, no patches of its own.

Paper, 2 and 4.2; details as in the public code. DiT (Peebles and Xie 2023) with ViTok's blocks and
rotary positions, trained by DDPM: it predicts the noise, and the variance of each step between its
two bounds. Codes are drawn from the posteriors and, as published, not normalised. Steps count from
data (0) to noise (T - 1).

Shapes: B batch, c channels of a code, L tokens of the grid, D width. Codes are (B, c, h, w), of
video (B, t, c, h, w).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gentok.latents.vitok.stack import EPS, GridRope, StackConfig, attention
from gentok.nn.blocks import AdaLNBlock
from gentok.nn.gated_mlp import GatedMlp
from gentok.nn.latents import NormalizedChannels
from gentok.nn.position import LabelEmbedding, TimestepEmbedding, labels_to_draw
from gentok.nn.transformer import Modulation, init_linears_xavier, modulate
from gentok.process.ddpm import GaussianDiffusion
from gentok.process.diffusion_sampling import ddim_sample
from gentok.process.diffusion_schedules import even_steps, linear_betas
from gentok.process.guidance import guide
from gentok.process.learned_variance import variational_bound


@dataclass(frozen=True)
class ViTokDiTConfig:
    """Sizes of a generator; the defaults are L on codes of S-B/1x16.

    Args:
        latent_shape: of the codes, (c, h, w) or (t, c, h, w).
        size: width, depth, heads.
        num_classes: labels run from 0; one more row of the table stands for "no class".
        label_drop: probability of training a sample without its label.
        gate, rope: as in `ViTokConfig`.
        published_params: computed from the public code.
    """

    latent_shape: tuple[int, ...] = (16, 16, 16)
    size: StackConfig = StackConfig(1024, 24, 16)
    num_classes: int = 1000
    label_drop: float = 0.1
    gate: str = "gelu"
    rope: str | None = "1d"
    published_params: int | None = None

    def __post_init__(self):
        if len(self.latent_shape) not in (3, 4):
            raise ValueError(f"latent_shape must have 3 or 4 entries, got {self.latent_shape}")

    @property
    def channels(self) -> int:
        """c."""
        return self.latent_shape[-3]

    @property
    def grid(self) -> tuple[int, int, int]:
        """(t, h, w)."""
        frames = self.latent_shape[0] if len(self.latent_shape) == 4 else 1
        return (frames, *self.latent_shape[-2:])

    @property
    def tokens(self) -> int:
        """L."""
        return math.prod(self.grid)


def norm(dim: int) -> nn.LayerNorm:
    """With weights of its own, although a modulation follows (public code)."""
    return nn.LayerNorm(dim, eps=EPS)


class Head(nn.Module):
    """A modulated norm and a linear layer that starts at zero."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm = norm(dim)
        self.modulation = Modulation(dim, 2)
        self.linear = nn.Linear(dim, out)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Tokens (B, L, D) and a condition (B, D) -> (B, L, out)."""
        shift, scale = self.modulation(c)
        return self.linear(modulate(self.norm(x), shift, scale))


class ViTokDiT(NormalizedChannels):
    """Noise and variance of noisy codes, given step and class.

    `set_statistics` is for small tokenizers, whose codes may be far from unit variance; without it
    codes are left as they are.
    """

    def __init__(self, config: ViTokDiTConfig):
        axes = "(B, C, h, w)" if len(config.latent_shape) == 3 else "(B, t, C, h, w)"
        super().__init__(config.channels, axes)
        self.config, size = config, config.size
        with torch.device("cpu"):  # a schedule has values even where the network has shapes alone
            self.diffusion = GaussianDiffusion(linear_betas(), variance="learned")
        self.embed = nn.Linear(config.channels, size.dim)
        self.position = nn.Parameter(torch.empty(1, config.tokens, size.dim))
        self.time = TimestepEmbedding(size.dim)
        self.label = LabelEmbedding(config.num_classes, size.dim, config.label_drop)
        rope, axes = config.rope, 2 if config.grid[0] == 1 else 3
        self.rope = GridRope(size.dim // size.num_heads, rope, axes) if rope else None
        self.blocks = nn.ModuleList(
            AdaLNBlock(
                size.dim,
                attention(size, rope is not None),
                GatedMlp(size.dim, size.hidden, config.gate),
                norm,
            )
            for _ in range(size.depth)
        )
        self.norm = norm(size.dim)
        self.head = Head(size.dim, 2 * config.channels)
        self._init()

    def _init(self) -> None:
        """DiT's start: blocks are the identity, and the answer is zero."""
        for part in (self.embed, *self.blocks, self.head):
            init_linears_xavier(part)
        for part in (*self.blocks, self.head):
            nn.init.zeros_(part.modulation.linear.weight)
        nn.init.zeros_(self.head.linear.weight)
        nn.init.normal_(self.position, std=self.config.tokens**-0.5)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Noisy codes, channels second, (B, c, ...), steps (B,), labels (B,) -> (B, 2c, ...).

        Returns:
            the noise, then the place of the log-variance between its bounds.
        """
        grid = self.config.grid
        tokens = self.embed(x.flatten(2).transpose(1, 2)) + self.position  # (B, L, D)
        c = self.time(t) + self.label(label)  # (B, D)
        turns = None if self.rope is None else self.rope(grid, x.device)
        for block in self.blocks:
            tokens = block(tokens, c, None, None, turns)
        out = self.head(self.norm(tokens), c)  # (B, L, 2c)
        return out.transpose(1, 2).unflatten(2, x.shape[2:])

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the noise + the variational bound, in bits, for the variance alone.

        Args:
            batch: ``latent`` as the tokenizer makes them, ``label`` (B,) int64.
            step: not used.

        Returns:
            total, scalar; parts ``noise`` and ``bound``.
        """
        x0 = self.normalize(batch["latent"]).movedim(-3, 1)  # (B, c, ...)
        t = self.diffusion.random_steps(len(x0), x0.device)
        eps = torch.randn_like(x0)
        x_t = self.diffusion.q_sample(x0, eps, t)
        output = self(x_t, t, batch["label"])
        simple = self.diffusion.simple_loss(output, x0, eps, t).mean()
        bound = variational_bound(self.diffusion, output, x0, x_t, t).mean()
        return simple + bound, {"noise": simple.detach(), "bound": bound.detach()}

    @torch.no_grad()
    def sample(
        self,
        n: int,
        label: int | Tensor | None = None,
        *,
        num_steps: int = 250,
        guidance_scale: float = 1.0,
        eta: float = 1.0,
    ) -> Tensor:
        """Draw codes; the defaults but ``guidance_scale`` are the public code's.

        Args:
            n: how many.
            label: one class for all, (n,) classes, or None for random ones.
            num_steps: of the 1,000, evenly from the last to the first.
            guidance_scale: s in eps_u + s (eps_c - eps_u); 1 is none (published: 1.5 and 3).
            eta: share of the noise that a step adds; 0 is deterministic.

        Returns:
            codes on the tokenizer's scale, (n, c, h, w) or (n, t, c, h, w).

        Raises:
            ValueError: if a label is out of range or their number is not ``n``, or ``num_steps``
                or ``eta`` is.
        """
        config, device = self.config, self.position.device
        label = labels_to_draw(n, label, config.num_classes).to(device)
        null = torch.full_like(label, config.num_classes)
        training = self.training
        self.eval()  # no label may be dropped

        def network(x: Tensor, t: Tensor) -> Tensor:
            if guidance_scale == 1.0:
                return self(x, t, label)
            both = self(torch.cat([x, x]), t.repeat(2), torch.cat([label, null]))
            return guide(*both.chunk(2), guidance_scale)

        noise = torch.randn(n, config.channels, *config.grid, device=device)
        steps = even_steps(self.diffusion.num_steps, num_steps)
        z = ddim_sample(self.diffusion, network, noise, steps, eta)  # (n, c, t, h, w)
        self.train(training)
        z = z.squeeze(2) if len(config.latent_shape) == 3 else z.transpose(1, 2)
        return self.denormalize(z)


DITS: dict[str, ViTokDiTConfig] = {
    "tiny": ViTokDiTConfig((8, 4, 4), StackConfig(64, 3, 4), num_classes=10),
    # The book's own, on 16 tokens of 16 numbers.
    "world-32": ViTokDiTConfig((16, 4, 4), StackConfig(128, 6, 4), num_classes=10),
    "b": ViTokDiTConfig(size=StackConfig(768, 12, 12)),
    "l": ViTokDiTConfig(published_params=458_410_176),
    "xl": ViTokDiTConfig(size=StackConfig(1152, 28, 16)),
}
