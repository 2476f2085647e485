"""Flow matching on the tokens of a frozen encoder (RAE: Zheng et al. 2025, sections 3 and 4).

Three things differ from diffusion on a VAE's latents: the network is at least as wide as a token,
by its head (`ddt`); each number of the latent is standardised by its own channel *and* position;
and time is shifted towards noise the more the larger the latent is. A second, weaker model can
guide (AutoGuidance: Karras et al. 2024).

The paper's time t_p runs from data (0) to noise (1); here t = 1 - t_p as everywhere in this book.
Its shift alpha t_p / (1 + (alpha - 1) t_p) is then `shift_times(t, 1 / alpha)`, and the velocity
changes its sign.

Shapes: B batch, C latent channels, g g latent grid.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gentok.base.lightning_dit import PRESETS as LIGHTNING
from gentok.base.lightning_dit import LightningDiT, LightningDiTConfig
from gentok.latents.rae.ddt import DDT
from gentok.nn.position import labels_to_draw
from gentok.process.flow import (
    flow_loss,
    interpolate,
    logit_normal_times,
    shift_times,
    velocity,
)
from gentok.process.guidance import guide

TIMES = ("logit-normal", "uniform")
LEAST_TIME = 0.001  # published: t_p is cut at 0.999, and the sampling grid starts and ends so
EPSILON = 1e-5


@dataclass(frozen=True)
class RAEDiTConfig:
    """Sizes of a generator on RAE's latents.

    Args:
        backbone: M, or the whole network if there is no head.
        head_dim, head_depth, head_heads: the wide head; depth 0 is the plain LightningDiT, the
            paper's baseline.
        shift_base: n in alpha = sqrt(m / n), with m = C g g: the size of latent for which time
            needs no shift. Published: 4096, a VAE's 4 x 32 x 32.
        times: ``"logit-normal"`` (the public configurations) or ``"uniform"`` training times,
            before the shift.
        published_params: as counted from the public code (position table and Fourier frequencies
            included).
    """

    backbone: LightningDiTConfig
    head_dim: int = 2048
    head_depth: int = 2
    head_heads: int = 16
    shift_base: int = 4096
    times: str = "logit-normal"
    published_params: int | None = None

    def __post_init__(self):
        if self.times not in TIMES:
            raise ValueError(f"unknown times {self.times!r}; accepted: {TIMES}")
        if self.shift_base < 1:
            raise ValueError(f"shift_base must be at least 1, got {self.shift_base}")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, g, g)."""
        return (self.backbone.in_channels, self.backbone.input_size, self.backbone.input_size)

    @property
    def latent_size(self) -> int:
        """m = C g g, the numbers of a latent."""
        return math.prod(self.latent_shape)

    @property
    def alpha(self) -> float:
        """The shift sqrt(m / n): 6.93 for 768 x 16 x 16; above 1 it pushes time towards noise."""
        return math.sqrt(self.latent_size / self.shift_base)


class RAEDiT(nn.Module):
    """A velocity network with the objective and the sampler of RAE."""

    def __init__(self, config: RAEDiTConfig):
        super().__init__()
        self.config = config
        if config.head_depth:
            head = (config.head_dim, config.head_depth, config.head_heads)
            self.network = DDT(config.backbone, *head)
        else:
            self.network = LightningDiT(config.backbone)
        self.register_buffer("latent_mean", torch.zeros(config.latent_shape))
        self.register_buffer("latent_var", torch.ones(config.latent_shape))

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Standardised noisy latents (B, C, g, g), times (B,), labels (B,) -> velocity."""
        return self.network(x, t, label)

    # --- statistics of the latents ----------------------------------------------------------------

    @torch.no_grad()
    def set_statistics(self, z: Tensor, momentum: float = 1.0) -> None:
        """Take mean and variance of every channel at every position from sample latents.

        Args:
            z: latents, (n, C, g, g), n above 1.
            momentum: 1 takes the statistics of these latents; less moves those held towards them,
                as the public code does batch after batch, by 0.1.

        Raises:
            ValueError: if the shape is another, or there is one latent: it has no variance.
        """
        if z.shape[1:] != self.latent_mean.shape or len(z) < 2:
            wanted = ", ".join(str(size) for size in self.latent_mean.shape)
            raise ValueError(f"latents must be (n, {wanted}), n above 1, got {tuple(z.shape)}")
        self.latent_mean.lerp_(z.mean(0), momentum)
        self.latent_var.lerp_(z.var(0), momentum)

    def normalize(self, z: Tensor) -> Tensor:
        """(z - mean) / sqrt(var + 1e-5), both by channel and position."""
        return (z - self.latent_mean) / (self.latent_var + EPSILON).sqrt()

    def denormalize(self, z: Tensor) -> Tensor:
        """The inverse of `normalize`."""
        return z * (self.latent_var + EPSILON).sqrt() + self.latent_mean

    # --- objective --------------------------------------------------------------------------------

    def training_times(self, n: int, device=None) -> Tensor:
        """n training times, (n,): drawn, cut so that they are never pure noise, then shifted."""
        if self.config.times == "logit-normal":
            t = logit_normal_times(n, device=device)
        else:
            t = torch.rand(n, device=device)
        return shift_times(t.clamp_min(LEAST_TIME), 1 / self.config.alpha)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared velocity error over all numbers of the latent (paper, 3.2).

        Args:
            batch: ``latent`` (B, C, g, g) as the encoder makes them, ``label`` (B,) int64.
            step: not used.

        Returns:
            total, scalar; part ``velocity``, the same.
        """
        x = self.normalize(batch["latent"])
        noise = torch.randn_like(x)
        t = self.training_times(len(x), x.device)
        total = flow_loss(self(interpolate(x, noise, t), t, batch["label"]), velocity(x, noise))
        return total, {"velocity": total.detach()}

    # --- sampler ----------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        n: int,
        label: int | Tensor | None = None,
        *,
        num_steps: int = 49,
        guidance_scale: float = 1.0,
        weak: "RAEDiT | None" = None,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> Tensor:
        """Draw latents with Euler steps on a shifted grid.

        Args:
            n: how many.
            label: one class for all, (n,) classes, or None for random ones.
            num_steps: of Euler. Published: a grid of 50 times, so 49.
            guidance_scale: w in v_weak + w (v - v_weak); 1 is none. Published with AutoGuidance:
                1.42 at 256 pixels, 1.5 at 512.
            weak: the model to be guided away from (published: DiT^DH-S after 14 epochs); None
                takes this model without its label, which is classifier-free guidance.
            interval: times between which guidance acts.

        Returns:
            latents on the encoder's scale, (n, C, g, g).

        Raises:
            ValueError: if a label is out of range or their number is not ``n``, or num_steps < 1.
        """
        device = self.latent_mean.device
        label = labels_to_draw(n, label, self.config.backbone.num_classes).to(device)
        training = self.training
        self.eval()  # no label may be dropped
        speed = self._guided(label, guidance_scale, weak, interval)
        x = torch.randn(n, *self.config.latent_shape, device=device)
        grid = self.sampling_grid(num_steps).to(device)
        for now, then in zip(grid, grid[1:], strict=False):
            x = x + (then - now) * speed(x, now.expand(n))
        self.train(training)
        return self.denormalize(x)

    def sampling_grid(self, num_steps: int) -> Tensor:
        """Times from 0 to just before 1, (num_steps + 1,), rising, bent as in training.

        Raises:
            ValueError: if there is no step.
        """
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}")
        return shift_times(torch.linspace(0, 1 - LEAST_TIME, num_steps + 1), 1 / self.config.alpha)

    def _guided(
        self, label: Tensor, scale: float, weak: "RAEDiT | None", interval: tuple[float, float]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The velocity field to follow."""
        other = self if weak is None else weak.eval()
        null = torch.full_like(label, self.config.backbone.num_classes)

        def speed(x: Tensor, t: Tensor) -> Tensor:
            good = self(x, t, label)
            if scale == 1.0 or not interval[0] <= float(t[0]) <= interval[1]:
                return good
            return guide(good, other(x, t, null if weak is None else label), scale)

        return speed


# --- presets --------------------------------------------------------------------------------------

_COUNTS = {"s": 196_455_764, "b": 294_295_892, "l": 621_744_436, "xl": 838_675_796}
_TINY = RAEDiTConfig(
    LightningDiTConfig(
        in_channels=64,
        input_size=8,
        dim=48,
        depth=4,
        num_heads=4,
        num_classes=10,
        time_features="fourier",
    ),
    head_dim=96,
    head_heads=4,
    shift_base=256,  # of a small VAE: 4 x 8 x 8
)
PRESETS: dict[str, RAEDiTConfig] = {
    "tiny": _TINY,
    # The book's own, on the 64 channels of its small encoder.
    "world-32": replace(
        _TINY, backbone=replace(_TINY.backbone, dim=128, depth=5), head_dim=192, head_heads=6
    ),
    # The chapter's study: a minute of one core, on five classes.
    "study-32": replace(
        _TINY, backbone=replace(_TINY.backbone, dim=32, depth=3, num_classes=5), shift_base=512
    ),
    **{
        f"dit-dh-{size}": RAEDiTConfig(
            replace(LIGHTNING[f"{size}/1-rae"], published_params=None), published_params=count
        )
        for size, count in _COUNTS.items()
    },
    **{
        f"dit-{size}": RAEDiTConfig(
            LIGHTNING[f"{size}/1-rae"],
            head_depth=0,
            published_params=LIGHTNING[f"{size}/1-rae"].published_params,
        )
        for size in _COUNTS
    },
    "dit-dh-xl-512": RAEDiTConfig(
        replace(LIGHTNING["xl/1-rae"], input_size=32, published_params=None)
    ),
}


def build(config: RAEDiTConfig) -> RAEDiT:
    """The model of a configuration, untrained."""
    return RAEDiT(config)


def example(config: RAEDiTConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    return {
        "latent": torch.zeros(batch_size, *config.latent_shape, device=device),
        "label": torch.zeros(batch_size, dtype=torch.int64, device=device),
    }
