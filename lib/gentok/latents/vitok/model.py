"""ViTok: a plain vision transformer as the autoencoder of images and video.

Hansen-Estruch et al. 2025 (arXiv:2501.09755), section 2; what the paper leaves open is as in its
public PyTorch code. Patches (of video: tubelets) become tokens, a transformer and a linear layer
turn each into the Gaussian of c numbers, and a second transformer goes the way back. Nothing is
convolved beyond a patch, so the number of tokens L and the numbers of a token c can be set apart.
Their product E = L c is what the paper's experiments turn on.

Shapes: B batch, T frames, H W pixels, q x p x p tubelets, grid t h w = T/q H/p W/p, L = t h w
tokens, c channels of a code, D width. Images are (B, 3, H, W) and their codes (B, c, h, w); videos
are (B, T, 3, H, W), their codes (B, t, c, h, w). Inside, both have five axes, channels second.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gentok.base.perception import perceived, perceptual_network
from gentok.latents.vitok.stack import Grid, Stack, StackConfig, video_positions
from gentok.nn.latents import LatentSpace
from gentok.nn.transformer import init_linears_xavier
from gentok.process.gaussian import DiagonalGaussian

RECONSTRUCTIONS = ("l1", "l2")
# Width, depth, heads. "H" exists in the public code alone and is left out.
SIZES = {
    "s": StackConfig(768, 6, 12),
    "b": StackConfig(768, 12, 12),
    "l": StackConfig(1152, 24, 16),
}


@dataclass(frozen=True)
class ViTokConfig:
    """Sizes and losses; the defaults are S-B/1x16 with 16 channels, at 256 pixels.

    Args:
        encoder, decoder: the two stacks; their widths may differ.
        image_size: H = W; ``frames``: T, or 1 for images.
        patch_size: p; ``tubelet``: q.
        latent_channels: c.
        gate: of the feed-forward layers, ``"gelu"`` (public code) or ``"silu"`` (paper).
        rope: ``"1d"`` (public code), ``"axial"`` (paper), or None.
        reconstruction: ``"l2"`` or ``"l1"``, a mean over pixels and channels.
        kl_weight: beta, of the KL averaged over the numbers of a code.
        perceptual_weight, perceptual_network: eta, and what LPIPS looks through: ``"vgg-lpips"``
            as published, or a small substitute (see `gentok.base.perception`).
        published_params: of both halves, where a source states their sum.
    """

    encoder: StackConfig = SIZES["s"]
    decoder: StackConfig = SIZES["b"]
    image_size: int = 256
    frames: int = 1
    patch_size: int = 16
    tubelet: int = 1
    latent_channels: int = 16
    gate: str = "gelu"
    rope: str | None = "1d"
    reconstruction: str = "l2"
    kl_weight: float = 1e-3
    perceptual_weight: float = 1.0
    perceptual_network: str = "vgg-lpips"
    published_params: int | None = None

    def __post_init__(self):
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"unknown reconstruction {self.reconstruction!r}; accepted: {RECONSTRUCTIONS}"
            )
        if self.image_size % self.patch_size or self.frames % self.tubelet:
            raise ValueError(
                f"patch_size must divide image_size and tubelet frames, got {self.patch_size}, "
                f"{self.image_size}, {self.tubelet}, {self.frames}"
            )

    @property
    def grid(self) -> Grid:
        """(t, h, w)."""
        side = self.image_size // self.patch_size
        return (self.frames // self.tubelet, side, side)

    @property
    def tokens(self) -> int:
        """L."""
        return math.prod(self.grid)

    @property
    def floats(self) -> int:
        """E = L c: numbers of a code. Variances do not count: nobody has to keep them."""
        return self.tokens * self.latent_channels

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(c, h, w), or (t, c, h, w)."""
        t, h, w = self.grid
        return (self.latent_channels, h, w) if self.frames == 1 else (t, self.latent_channels, h, w)


class ViTok(nn.Module):
    """Tubelets -> tokens -> stack -> Gaussian code -> stack -> tubelets.

    Raises:
        ValueError: from the layers, if heads do not divide or a kind is unknown.
    """

    def __init__(self, config: ViTokConfig):
        super().__init__()
        self.config = config
        c, kernel = config.latent_channels, (config.tubelet, config.patch_size, config.patch_size)
        encoder, decoder = config.encoder, config.decoder
        kinds = (config.gate, config.rope, 2 if config.frames == 1 else 3)
        self.to_tokens = nn.Conv3d(3, encoder.dim, kernel, kernel)
        self.encoder = Stack(encoder, *kinds)
        self.to_code = nn.Linear(encoder.dim, 2 * c)
        self.from_code = nn.Linear(c, decoder.dim)
        self.decoder = Stack(decoder, *kinds)
        # The transposed convolution keeps PyTorch's start, as in the public code.
        self.to_pixels = nn.ConvTranspose3d(decoder.dim, 3, kernel, kernel)
        init_linears_xavier(self)
        nn.init.xavier_uniform_(self.to_tokens.weight.view(encoder.dim, -1))
        self._perceptual_network = perceptual_network(config.perceptual_network)

    # --- tokenizer --------------------------------------------------------------------------------

    @property
    def latent_space(self) -> LatentSpace:
        """E floats an image, or a video."""
        key = "image" if self.config.frames == 1 else "video"
        return LatentSpace("continuous", self.config.latent_shape, key)

    def encoder_parts(self) -> tuple[nn.Module, ...]:
        """All that a code depends on."""
        return self.to_tokens, self.encoder, self.to_code

    def decoder_parts(self) -> tuple[nn.Module, ...]:
        """All that makes pixels of a code."""
        return self.from_code, self.decoder, self.to_pixels

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        """Images or videos -> the Gaussian over codes, (B, c, t, h, w).

        Raises:
            ValueError: if the shape or dtype of ``x`` does not fit.
        """
        self._check(x)
        x = x.unsqueeze(2) if x.ndim == 4 else x.transpose(1, 2)  # (B, 3, T, H, W)
        x = self.to_tokens(x)  # (B, D, t, h, w)
        grid = tuple(x.shape[2:])
        tokens = self._placed(x.flatten(2).transpose(1, 2), grid)  # (B, L, D)
        moments = self.to_code(self.encoder(tokens, grid))  # (B, L, 2c)
        return DiagonalGaussian.from_moments(moments.transpose(1, 2).unflatten(2, grid))

    def encode(self, x: Tensor, sample: bool = False) -> Tensor:
        """Images (B, 3, H, W) -> codes (B, c, h, w); videos (B, T, 3, H, W) -> (B, t, c, h, w).

        Args:
            x: in [-1, 1]; any sides that patches divide.
            sample: draw from the posteriors instead of taking their means.

        Raises:
            ValueError: if the shape or dtype of ``x`` does not fit.
        """
        posterior = self.posterior(x)
        z = posterior.sample() if sample else posterior.mode()
        return z.squeeze(2) if self.config.frames == 1 else z.transpose(1, 2)

    def decode(self, z: Tensor) -> Tensor:
        """Codes as `encode` makes them -> images or videos, not clamped.

        Raises:
            ValueError: if the shape does not fit.
        """
        axes, c = len(self.config.latent_shape) + 1, self.config.latent_channels
        if z.ndim != axes or z.shape[-3] != c:
            wanted = f"(B, {c}, h, w)" if axes == 4 else f"(B, t, {c}, h, w)"
            raise ValueError(f"z must be {wanted}, got {tuple(z.shape)}")
        return self.decode_code(z.unsqueeze(2) if axes == 4 else z.transpose(1, 2))

    def decode_code(self, z: Tensor) -> Tensor:
        """Codes (B, c, t, h, w) -> images (B, 3, H, W) or videos (B, T, 3, H, W)."""
        grid = tuple(z.shape[2:])
        tokens = self._placed(self.from_code(z.flatten(2).transpose(1, 2)), grid)  # (B, L, D)
        tokens = self.decoder(tokens, grid)
        x = self.to_pixels(tokens.transpose(1, 2).unflatten(2, grid))  # (B, 3, T, H, W)
        return x.squeeze(2) if self.config.frames == 1 else x.transpose(1, 2)

    def _placed(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens of video get a fixed position added; those of images have RoPE alone."""
        if self.config.frames == 1:
            return tokens
        return tokens + video_positions(grid, tokens.shape[-1], tokens.device)

    # --- objective --------------------------------------------------------------------------------

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Stage 1: reconstruction + beta KL + eta LPIPS on ``batch["image"]`` or ``["video"]``.

        Returns:
            total, scalar; parts without their weights: ``reconstruction`` (per value), ``kl``
            (nats a number of the code), ``perceptual``.
        """
        total, parts, _ = self.objective(batch[self.latent_space.batch_key])
        return total, {name: part.detach() for name, part in parts.items()}

    def objective(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Total, parts, and the reconstruction that they are of, which stage 2 judges, too."""
        config, posterior = self.config, self.posterior(x)
        x_hat = self.decode_code(posterior.sample())
        error = x - x_hat
        rec = error.abs().mean() if config.reconstruction == "l1" else error.square().mean()
        # A mean, not a sum: beta then means the same for every E.
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        parts = {"reconstruction": rec, "kl": kl}
        total = rec + config.kl_weight * kl
        if config.perceptual_weight > 0:
            network = self._perceptual_network.on(x.device)
            parts["perceptual"] = perceived(network, pictures(x), pictures(x_hat)).mean()
            total = total + config.perceptual_weight * parts["perceptual"]
        return total, parts, x_hat

    def _check(self, x: Tensor) -> None:
        config = self.config
        video, p, q = config.frames > 1, config.patch_size, config.tubelet
        fits = x.ndim == (5 if video else 4) and x.shape[-3] == 3
        fits = fits and not (x.shape[-1] % p or x.shape[-2] % p or (video and x.shape[1] % q))
        if not fits or not x.is_floating_point():
            wanted = f"(B, T, 3, H, W), T a multiple of {q}" if video else "(B, 3, H, W)"
            raise ValueError(
                f"x must be float {wanted}, H and W multiples of {p}, got {x.dtype} "
                f"{tuple(x.shape)}"
            )


def pictures(x: Tensor) -> Tensor:
    """Images as they are; the frames of videos one after the other, (B T, 3, H, W)."""
    return x if x.ndim == 4 else x.flatten(0, 1)


# --- presets --------------------------------------------------------------------------------------


def _published(halves: str, patch: int, tubelet: int = 1, **more) -> ViTokConfig:
    """ENC-DEC/qxp of the paper, such as ``_published("s-b", 16)``."""
    encoder, decoder = (SIZES[letter] for letter in halves.split("-"))
    return ViTokConfig(encoder, decoder, patch_size=patch, tubelet=tubelet, **more)


def _video(patch: int, tubelet: int) -> ViTokConfig:
    """16 frames of 128 pixels; beta follows E, and LPIPS weighs a tenth (public code)."""
    size = _published("s-b", patch, tubelet, image_size=128, frames=16, perceptual_weight=0.1)
    return replace(size, kl_weight=3e-4 * 4096 / size.floats)


_TINY = ViTokConfig(
    encoder=StackConfig(64, 2, 4),
    decoder=StackConfig(64, 3, 4),
    image_size=32,
    patch_size=8,
    latent_channels=8,
    rope="axial",
    kl_weight=1e-4,  # a code of some hundred numbers in a run of some hundred steps
    perceptual_weight=0.1,  # the substitute's values are about ten times LPIPS's
    perceptual_network="photographs",
)
# Printed in millions; computed from the layers of the public code, with a width for each half.
_COUNTS = {
    "s-s": 86_315_603,
    "b-s": 128_862_827,
    "s-b": 128_862_827,
    "b-b": 171_410_051,
    "s-l": 426_838_859,
    "b-l": 469_386_083,
    "l-l": 767_368_259,
}
PRESETS: dict[str, ViTokConfig] = {
    "tiny": _TINY,
    # The chapter's for its experiments, and the book's own: squared error and KL alone.
    "study-32": replace(_TINY, latent_channels=4, perceptual_weight=0.0),
    # The book's own for the procedural world, on whose codes a generator learns.
    "world-32": replace(_TINY, latent_channels=16, perceptual_weight=0.0),
    "tiny-video": replace(
        _TINY,
        encoder=StackConfig(48, 1, 4),
        decoder=StackConfig(48, 2, 4),
        frames=8,
        tubelet=2,
        perceptual_weight=0.0,
    ),
    # Encoder and decoder sizes, at E = 4096.
    **{
        f"{halves}-1x16": _published(halves, 16, published_params=count)
        for halves, count in _COUNTS.items()
    },
    "s-b-1x16-512": _published("s-b", 16, image_size=512, published_params=_COUNTS["s-b"]),
    # The sweep over E: what is not 16 pixels and 16 channels.
    **{
        f"s-b-1x{patch}x{channels}": _published("s-b", patch, latent_channels=channels)
        for patch in (8, 16, 32)
        for channels in (4, 8, 16, 32, 64)
        if (patch, channels) != (16, 16)
    },
    "s-b-4x8": _video(8, 4),
    "s-b-8x8": _video(8, 8),
    "s-b-4x16": _video(16, 4),
}


def cell(patch_size: int, latent_channels: int, base: ViTokConfig | None = None) -> ViTokConfig:
    """A cell of the sweep over E: ``study-32`` (or another size) with p and c of its own."""
    base = PRESETS["study-32"] if base is None else base
    return replace(base, patch_size=patch_size, latent_channels=latent_channels)


def build(config: ViTokConfig) -> ViTok:
    """The model of a configuration, untrained."""
    return ViTok(config)


def example(config: ViTokConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    side, key = config.image_size, "image" if config.frames == 1 else "video"
    shape = (3, side, side) if config.frames == 1 else (config.frames, 3, side, side)
    return {
        key: torch.zeros(batch_size, *shape, device=device),
        "label": torch.zeros(batch_size, dtype=torch.int64, device=device),
    }
