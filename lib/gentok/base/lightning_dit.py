"""LightningDiT: a diffusion transformer with modern blocks, trained by flow matching.

Yao et al. 2025 (VA-VAE), section 4, and its public code: DiT (Peebles and Xie 2023) with RMSNorm,
SwiGLU, rotary positions, velocity prediction, lognormal times and a loss on the direction of the
velocity. It draws latents; a tokenizer turns them into images. Time runs from t = 0 (noise) to
t = 1 (data).

Shapes: B batch, C latent channels, h w latent grid, N = (h/p)(w/p) tokens, D width.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gentok.nn.attention import SelfAttention
from gentok.nn.blocks import AdaLNBlock
from gentok.nn.latents import NormalizedChannels
from gentok.nn.norm import RMSNorm
from gentok.nn.position import (
    AxialRope2d,
    LabelEmbedding,
    TimestepEmbedding,
    check_label,
    labels_to_draw,
    sincos_2d,
)
from gentok.nn.transformer import Modulation, SwiGLU, init_linears_xavier, modulate
from gentok.process.flow import (
    direction_loss,
    euler_sample,
    flow_loss,
    interpolate,
    logit_normal_times,
    velocity,
)
from gentok.process.guidance import guide

TIME_FEATURES = ("sincos", "fourier")


@dataclass(frozen=True)
class LightningDiTConfig:
    """Sizes of a LightningDiT; the defaults are XL/1 on VA-VAE's latents.

    Args:
        in_channels: C of the latents.
        input_size: h = w of the latents; a multiple of ``patch_size``.
        patch_size: p; the paper's models use 1.
        dim, depth, num_heads: D, blocks, heads.
        num_classes: labels run from 0; one more row of the table stands for "no class".
        label_drop: probability of training a sample without its label.
        time_features: ``"sincos"``: 256 fixed cosines and sines, as DiT and LightningDiT;
            ``"fourier"``: 256 random frequencies N(0, 1), sines and cosines, as RAE's copy.
        guided_channels: guidance acts on so many first channels of the latents and leaves the
            others to the conditional model; None: on all. Published: 3, a habit of DiT's code, and
            the published scales hold for that only.
        published_params: as stated (fixed position table and Fourier frequencies included).
    """

    in_channels: int = 32
    input_size: int = 16
    patch_size: int = 1
    dim: int = 1152
    depth: int = 28
    num_heads: int = 16
    num_classes: int = 1000
    label_drop: float = 0.1
    time_features: str = "sincos"
    guided_channels: int | None = None
    published_params: int | None = None

    def __post_init__(self):
        if self.input_size % self.patch_size:
            raise ValueError(
                f"patch_size must divide input_size, got {self.patch_size} and {self.input_size}"
            )
        if self.guided_channels is not None and not 1 <= self.guided_channels <= self.in_channels:
            raise ValueError(
                f"guided_channels must lie in [1, {self.in_channels}], got {self.guided_channels}"
            )
        if self.time_features not in TIME_FEATURES:
            raise ValueError(
                f"unknown time_features {self.time_features!r}; accepted: {TIME_FEATURES}"
            )

    @property
    def grid(self) -> int:
        """Tokens along one side."""
        return self.input_size // self.patch_size


class FourierTimeEmbedding(nn.Module):
    """Time -> width-D vector through 256 fixed random frequencies (RAE's copy of LightningDiT)."""

    def __init__(self, dim: int, num_frequencies: int = 256):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(num_frequencies))
        self.mlp = nn.Sequential(
            nn.Linear(2 * num_frequencies, dim), nn.SiLU(), nn.Linear(dim, dim)
        )

    def forward(self, t: Tensor) -> Tensor:
        """(B,) in [0, 1] -> (B, D)."""
        angles = 2 * math.pi * t[:, None] * self.frequencies  # (B, 256)
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=-1))


class LightningBlock(AdaLNBlock):
    """RMSNorm, attention; RMSNorm, SwiGLU; both shifted, scaled and gated by time and label."""

    def __init__(self, dim: int, num_heads: int, rope: AxialRope2d):
        attention = SelfAttention(dim, num_heads, rope=rope)
        # Two thirds of 4 D: three matrices of SwiGLU then hold what two of an MLP did.
        super().__init__(dim, attention, SwiGLU(dim, int(2 / 3 * 4 * dim)), norm=RMSNorm)


class FinalLayer(nn.Module):
    """Modulated RMSNorm and a linear layer that starts at zero."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm = RMSNorm(dim)
        self.linear = nn.Linear(dim, out)
        self.modulation = Modulation(dim, 2)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Tokens (B, N, D) and a condition a sample (B, D), or a token (B, N, D) -> (B, N, out)."""
        shift, scale = self.modulation(c)
        return self.linear(modulate(self.norm(x), shift, scale))


class LightningDiT(NormalizedChannels):
    """Velocity of noisy latents, given time and class.

    Latents go in and come out as the tokenizer makes them; `set_statistics` lets the model
    normalise each channel.
    """

    def __init__(self, config: LightningDiTConfig):
        super().__init__(config.in_channels, "(B, C, h, w)")
        self.config = config
        dim, grid, patch = config.dim, config.grid, config.patch_size
        self.patchify = nn.Conv2d(config.in_channels, dim, patch, stride=patch)
        table = sincos_2d(grid, grid, dim)[None]  # (1, N, D)
        self.position = nn.Parameter(table, requires_grad=False)  # fixed, but counted in papers
        fourier = config.time_features == "fourier"
        self.time = FourierTimeEmbedding(dim) if fourier else TimestepEmbedding(dim)
        self.label = LabelEmbedding(config.num_classes, dim, config.label_drop)
        # Not a submodule of each block: one table of angles serves them all.
        rope = AxialRope2d(grid, grid, dim // config.num_heads)
        self.blocks = nn.ModuleList(
            LightningBlock(dim, config.num_heads, rope) for _ in range(config.depth)
        )
        self.final = FinalLayer(dim, patch * patch * config.in_channels)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier everywhere, then zeros where a block must start as the identity."""
        init_linears_xavier(self)
        weight = self.patchify.weight
        nn.init.xavier_uniform_(weight.view(weight.shape[0], -1))  # a patch convolution is a linear
        nn.init.zeros_(self.patchify.bias)
        for layer in (self.time.mlp[0], self.time.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
        modulations = [block.modulation for block in self.blocks] + [self.final.modulation]
        for linear in [m.linear for m in modulations] + [self.final.linear]:
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    # --- network ----------------------------------------------------------------------------------

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            x: normalised noisy latents, (B, C, h, w).
            t: times in [0, 1], (B,), 0 = noise; the network sees them unscaled.
            label: classes, (B,) int64 in [0, num_classes]; num_classes means "no class".

        Returns:
            velocity data - noise, (B, C, h, w).

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
        c = self.time(t) + self.label(label)  # (B, D)
        tokens = self.patchify(x).flatten(2).transpose(1, 2)  # (B, N, D)
        # Contiguous: a transposed residual stream would slow down every block.
        tokens = tokens.contiguous() + self.position
        for block in self.blocks:
            tokens = block(tokens, c)
        return self._unpatchify(self.final(tokens, c))

    def _unpatchify(self, tokens: Tensor) -> Tensor:
        """(B, N, p p C) -> (B, C, h, w)."""
        p, grid = self.config.patch_size, self.config.grid
        x = tokens.unflatten(2, (p, p, -1)).unflatten(1, (grid, grid))  # (B, gh, gw, p, p, C)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    # --- objective and sampler --------------------------------------------------------------------

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity MSE + (1 - cosine) of its direction, at lognormal times (VA-VAE, section 4).

        Args:
            batch: ``latent`` (B, C, h, w) as the tokenizer makes them, ``label`` (B,) int64.
            step: not used.

        Returns:
            total, scalar; parts ``velocity`` and ``direction``.
        """
        x = self.normalize(batch["latent"])
        noise = torch.randn_like(x)
        t = logit_normal_times(len(x), device=x.device)  # (B,)
        target = velocity(x, noise)
        predicted = self(interpolate(x, noise, t), t, batch["label"])
        mse, direction = flow_loss(predicted, target), direction_loss(predicted, target)
        return mse + direction, {"velocity": mse.detach(), "direction": direction.detach()}

    @torch.no_grad()
    def sample(
        self,
        n: int,
        label: int | Tensor | None = None,
        *,
        num_steps: int = 249,
        guidance_scale: float = 1.0,
        guidance_start: float = 0.1,
        shift: float = 0.3,
    ) -> Tensor:
        """Draw latents with Euler steps; the defaults but ``guidance_scale`` are the public code's.

        Args:
            n: how many.
            label: one class for all, (n,) classes, or None for random ones.
            num_steps: Euler steps (published: 250 points of time, hence 249 steps).
            guidance_scale: of classifier-free guidance on the configuration's
                ``guided_channels``; 1 is none (published, for three channels: 10 after 64 epochs,
                6.7 after 800).
            guidance_start: time from which guidance acts (published: 0.1, later 0.125).
            shift: bend of the time grid; below 1 it spends more steps near noise.

        Returns:
            latents on the tokenizer's scale, (n, C, h, w).

        Raises:
            ValueError: if a label is out of range or their number is not ``n``.
        """
        config, device = self.config, self.position.device
        label = labels_to_draw(n, label, config.num_classes).to(device)
        null = torch.full_like(label, config.num_classes)
        training = self.training
        self.eval()  # no label may be dropped

        def speed(x: Tensor, t: Tensor) -> Tensor:
            if guidance_scale == 1.0 or float(t[0]) < guidance_start:
                return self(x, t, label)
            both = self(x.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([label, null]))
            return guide(*both.chunk(2), guidance_scale, config.guided_channels)

        shape = (n, config.in_channels, config.input_size, config.input_size)
        z = euler_sample(speed, torch.randn(shape, device=device), num_steps, shift)
        self.train(training)
        return self.denormalize(z)


_SIZES = {
    "s": {"dim": 384, "depth": 12, "num_heads": 6},
    "b": {"dim": 768, "depth": 12, "num_heads": 12},
    "l": {"dim": 1024, "depth": 24, "num_heads": 16},
    "xl": {"dim": 1152, "depth": 28, "num_heads": 16},
}
# Counted in RAE's setting: its 768 latent channels and its Fourier time features.
_RAE_COUNTS = {"s": 33_649_792, "b": 131_884_288, "l": 459_923_424, "xl": 677_248_384}
PRESETS: dict[str, LightningDiTConfig] = {
    "tiny": LightningDiTConfig(input_size=4, dim=128, depth=4, num_heads=4, num_classes=10),
    # VA-VAE's configuration.
    **{f"{name}/1": LightningDiTConfig(**size, guided_channels=3) for name, size in _SIZES.items()},
    **{
        f"{name}/1-rae": LightningDiTConfig(
            **size, in_channels=768, time_features="fourier", published_params=_RAE_COUNTS[name]
        )
        for name, size in _SIZES.items()
    },
}


def build(config: LightningDiTConfig) -> LightningDiT:
    """The model of a configuration, untrained."""
    return LightningDiT(config)


def example(
    config: LightningDiTConfig, batch_size: int = 1, device: str = "meta"
) -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    size = config.input_size
    return {
        "latent": torch.zeros(batch_size, config.in_channels, size, size, device=device),
        "label": torch.zeros(batch_size, dtype=torch.int64, device=device),
    }
