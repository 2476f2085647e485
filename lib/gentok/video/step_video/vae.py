"""The Video-VAE of Step-Video-T2V: causal in time, with two paths at its narrowest point.

Ma et al. 2025 (arXiv:2502.10248), section on the Video-VAE; layer orders, widths and the
arithmetic of frames follow the released inference code. Seventeen frames become three latent
frames of a sixteenth of the height and width: 17 -> 9 -> 5 by strided convolutions, 5 -> 3 by
moving 2x2x2 blocks into channels. That last step has two paths: a convolution, and a shortcut
without parameters that averages neighbouring channels. Version 1 stops at five latent frames.

The released code has no training part. Perceptual and adversarial terms stand in
`gentok.video.step_video.vae_game`; the weights of all terms are this book's.

Shapes: B batch, T frames, H W pixels, z latent channels; clips are (B, T, 3, H, W), latents
(B, t, z, h, w); inside the networks channels come before time.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.conv3d import CausalConv3d, VideoGroupNorm, average_channels, repeat_channels
from gentok.nn.latents import LatentSpace
from gentok.process.gaussian import DiagonalGaussian
from gentok.video.step_video.vae_layers import (
    FrameDownsample,
    FrameUpsample,
    Patchify,
    ResBlock3d,
    Unpatchify,
    VideoUpsample,
    middle,
)

CHUNK = 17  # frames that are encoded together; chunks know nothing of each other
SEAM = 0.6  # share of a frame that stays its own where two decoded chunks meet


@dataclass(frozen=True)
class VideoVAEConfig:
    """Sizes and loss weights; the defaults are version 2's.

    Args:
        height, width: of the clips in :func:`example`; any multiple of ``factor`` is accepted.
        latent_channels: z.
        encoder_channels, encoder_multipliers: widths of the four levels of the encoder;
            ``decoder_channels`` and ``decoder_multipliers`` of the decoder, in the same order.
        num_res_blocks: residual blocks of an encoder level; the decoder has one more.
        groups: of every GroupNorm.
        patchify: the step 5 -> 3 frames (version 2).
        shortcuts: the path without parameters beside it; False only for the ablation.
        frame_norm: statistics of single frames (version 2) or of the whole chunk (version 1).
        squared: take squared pixel errors instead of absolute ones (the paper's). The best constant
            answer to absolute ones is the floor, where a small object is never the median, and a
            short training does not leave it.
        kl_weight: of the summed KL against the summed pixel error (value not stated; ours).
        perceptual_weight, perceptual_network: see `gentok.video.step_video.vae_game`, as for
            ``gan_weight``, ``gan_start``, ``discriminator_channels`` and ``discriminator_layers``
            (values not stated; ours).
        published_params: as computed from the released code.
    """

    height: int = 544
    width: int = 992
    latent_channels: int = 64
    encoder_channels: int = 32
    encoder_multipliers: tuple[int, ...] = (4, 8, 16, 16)
    decoder_channels: int = 128
    decoder_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    groups: int = 32
    patchify: bool = True
    shortcuts: bool = True
    frame_norm: bool = True
    squared: bool = False
    kl_weight: float = 1e-6
    perceptual_weight: float = 1.0
    perceptual_network: str = "vgg-lpips"
    gan_weight: float = 0.5
    gan_start: int = 50_001
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    published_params: int | None = None

    def __post_init__(self):
        if len(self.encoder_multipliers) != 4 or len(self.decoder_multipliers) != 4:
            raise ValueError(
                "encoder_multipliers and decoder_multipliers must have four levels, got "
                f"{self.encoder_multipliers} and {self.decoder_multipliers}"
            )
        if self.height % self.factor or self.width % self.factor:
            raise ValueError(
                f"height and width must be multiples of {self.factor}, "
                f"got {self.height} and {self.width}"
            )

    @property
    def factor(self) -> int:
        """Pixels of a frame along one side of a latent cell."""
        return 16 if self.patchify else 8

    @property
    def latent_frames(self) -> int:
        """Latent frames of a chunk of 17 frames."""
        return 3 if self.patchify else 5

    @property
    def left_over(self) -> tuple[int, ...]:
        """Frames that the last chunk may have: 1 for a picture, up to 17.

        The first latent frame stands for one frame, each other for eight (version 1: four).
        """
        return tuple(range(1, CHUNK + 1, 8 if self.patchify else 4))

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(t, z, h, w) of one chunk."""
        sides = self.height // self.factor, self.width // self.factor
        return (self.latent_frames, self.latent_channels, *sides)


class VideoEncoder(nn.Module):
    """A chunk of frames -> moments of its latents."""

    def __init__(self, config: VideoVAEConfig):
        super().__init__()
        self.config = config
        norm = config.groups, config.frame_norm
        widths = [config.encoder_channels * m for m in config.encoder_multipliers]
        self.conv_in = CausalConv3d(3, config.encoder_channels)
        width, layers = config.encoder_channels, []
        for level, wider in enumerate(widths):
            for _ in range(config.num_res_blocks):
                layers.append(ResBlock3d(width, wider, *norm))
                width = wider
            if level == 0:
                layers.append(FrameDownsample(width))
            elif level < 3:
                layers.append(CausalConv3d(width, width, stride=2))  # halves time, too
        self.levels = nn.Sequential(*layers)
        self.middle = middle(width, *norm)
        self.norm_out = VideoGroupNorm(width, *norm)
        z, deep = config.latent_channels, 32 * config.latent_channels
        self.patchify = Patchify(width, deep, config.shortcuts) if config.patchify else None
        self.conv_out = CausalConv3d(deep if config.patchify else width, 2 * z)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 2z, t, h, w)."""
        h = self.middle(self.levels(self.conv_in(x)))
        h = F.silu(self.norm_out(h))
        if self.patchify is None:
            return self.conv_out(h)
        h = self.patchify(h)  # (B, 32z, 3, h, w)
        out = self.conv_out(h)
        return out + average_channels(h, out.shape[1]) if self.config.shortcuts else out


class VideoDecoder(nn.Module):
    """Latents of a chunk -> its frames."""

    def __init__(self, config: VideoVAEConfig):
        super().__init__()
        self.config = config
        norm = config.groups, config.frame_norm
        widths = [config.decoder_channels * m for m in config.decoder_multipliers]
        z, deep, width = config.latent_channels, 32 * config.latent_channels, widths[-1]
        self.conv_in = CausalConv3d(z, deep if config.patchify else width)
        self.unpatchify = Unpatchify(deep, width, config.shortcuts) if config.patchify else None
        self.middle = middle(width, *norm)
        layers: list[nn.Module] = []
        for level in (3, 2, 1, 0):
            for _ in range(config.num_res_blocks + 1):
                layers.append(ResBlock3d(width, widths[level], *norm))
                width = widths[level]
            if level >= 2:
                layers.append(VideoUpsample(width, *norm))
            elif level == 1:
                layers.append(FrameUpsample(width))
        self.levels = nn.Sequential(*layers)
        self.norm_out = VideoGroupNorm(width, *norm)
        self.conv_out = CausalConv3d(width, 3)

    def forward(self, z: Tensor) -> Tensor:
        """(B, z, t, h, w) -> (B, 3, T, H, W)."""
        h = self.conv_in(z)
        if self.unpatchify is not None:
            if self.config.shortcuts:
                h = h + repeat_channels(z, h.shape[1])
            h = self.unpatchify(h)
        h = self.levels(self.middle(h))
        x = self.conv_out(F.silu(self.norm_out(h)))
        return x[:, :, 3:]  # twice doubled, t latent frames are 4t; the first stands for one


class VideoVAE(nn.Module):
    """A causal video autoencoder with a Gaussian posterior, working chunk by chunk."""

    def __init__(self, config: VideoVAEConfig):
        super().__init__()
        self.config = config
        self.encoder = VideoEncoder(config)
        self.decoder = VideoDecoder(config)

    def posterior(self, video: Tensor) -> DiagonalGaussian:
        """Clips (B, T, 3, H, W) in [-1, 1] -> the Gaussian over latents (B, t, z, h, w).

        Raises:
            ValueError: if T is not a number of whole chunks, perhaps with one of
                ``config.left_over`` frames after them, or H or W is no multiple of
                ``config.factor``.
        """
        self._check(video)
        moments = [self.encoder(chunk) for chunk in _channels_first(video).split(CHUNK, dim=2)]
        mean, logvar = torch.cat(moments, 2).transpose(1, 2).chunk(2, dim=2)
        return DiagonalGaussian(mean, logvar.clamp(-30.0, 20.0))

    @property
    def latent_space(self) -> LatentSpace:
        """(t, z, h, w) floats a clip; t grows with its frames."""
        config = self.config
        size = config.height // config.factor, config.width // config.factor
        return LatentSpace("continuous", (None, config.latent_channels, *size), "video")

    def encode(self, x: Tensor, sample: bool = False) -> Tensor:
        """Clips (B, T, 3, H, W) or pictures (B, 3, H, W) -> latents (B, t, z, h, w).

        A picture is a clip of one frame and has one latent frame. A clip whose length does not come
        out even holds its last frame until it does; `decode` cuts that off if told T.

        Args:
            x: in [-1, 1]; H and W multiples of ``config.factor``.
            sample: draw from the posterior instead of taking its mean.
        """
        posterior = self.posterior(self._whole(x[:, None] if x.ndim == 4 else x))
        return posterior.sample() if sample else posterior.mode()

    def decode(self, z: Tensor, blend: bool = True, frames: int | None = None) -> Tensor:
        """Latents (B, t, z, h, w) -> clips (B, T, 3, H, W), not clamped.

        Args:
            z: latents of one or several chunks in a row.
            blend: mix the two frames at each seam, see :func:`blend_seams`.
            frames: T, the first so many frames; None for all that the latents stand for.

        Raises:
            ValueError: if ``z`` is no such latent, or stands for fewer frames.
        """
        channels = self.config.latent_channels
        if z.ndim != 5 or z.shape[2] != channels:
            raise ValueError(f"z must be (B, t, {channels}, h, w), got {tuple(z.shape)}")
        chunks = _channels_first(z).split(self.config.latent_frames, dim=2)
        video = torch.cat([self.decoder(chunk) for chunk in chunks], 2).transpose(1, 2)
        if frames is not None and not 1 <= frames <= video.shape[1]:
            raise ValueError(f"frames must lie in [1, {video.shape[1]}], got {frames}")
        return (blend_seams(video) if blend else video)[:, :frames]

    def reconstruct(self, video: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Reconstruction (B, T, 3, H, W) from a draw, pixel + KL loss, and their parts."""
        posterior = self.posterior(video)
        # Without the blending of seams, a fixed filter that training need not know.
        x_hat = self.decode(posterior.sample(), blend=False)
        absolute, kl = F.l1_loss(x_hat, video), posterior.kl().mean()
        pixels = F.mse_loss(x_hat, video) if self.config.squared else absolute
        total = pixels + self.config.kl_weight * kl / video[0].numel()
        return x_hat, total, {"l1": absolute.detach(), "kl": kl.detach()}

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Pixel error per value (L1, or squared) + weighted KL.

        Args:
            batch: ``{"video": (B, T, 3, H, W) in [-1, 1]}``.
            step: not used.

        Returns:
            total, scalar; parts ``l1`` (per value) and ``kl`` (nats a clip).
        """
        _, total, parts = self.reconstruct(batch["video"])
        return total, parts

    def _check(self, video: Tensor) -> None:
        factor = self.config.factor
        if video.ndim != 5 or video.shape[2] != 3 or any(n % factor for n in video.shape[3:]):
            raise ValueError(
                f"video must be (B, T, 3, H, W) with H and W multiples of {factor}, "
                f"got {tuple(video.shape)}"
            )
        rest, accepted = video.shape[1] % CHUNK, self.config.left_over
        if not video.shape[1] or rest not in (0, *accepted):
            raise ValueError(
                f"video must have a multiple of {CHUNK} frames, plus "
                f"{' or '.join(map(str, accepted[:-1]))}, got {video.shape[1]}"
            )

    def _whole(self, video: Tensor) -> Tensor:
        """Hold the last frame until the number of frames is one that `posterior` accepts."""
        rest = video.shape[1] % CHUNK
        if video.ndim != 5 or not rest:
            return video  # `posterior` says what is wrong with it, if anything
        missing = min(length for length in self.config.left_over if length >= rest) - rest
        return torch.cat([video, video[:, -1:].expand(-1, missing, -1, -1, -1)], 1)


def _channels_first(x: Tensor) -> Tensor:
    """(B, T, C, H, W) -> (B, C, T, H, W), channels last in memory."""
    return x.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)


def grow(model: VideoVAE, earlier: VideoVAE) -> list[str]:
    """Start a Video-VAE from an earlier stage's: take over every weight of one name and shape.

    Returns:
        the names of the weights that stay as they are: what the earlier one has not.
    """
    known, own = earlier.state_dict(), model.state_dict()
    taken = {k: v for k, v in known.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(taken, strict=False)
    return [name for name in own if name not in taken]


def blend_seams(video: Tensor) -> Tensor:
    """Mix the last frame of each chunk with the first of the next, which never saw each other.

    The later frame first: back = 0.6 back + 0.4 front; then front = 0.6 front + 0.4 (new back).

    Args:
        video: decoded chunks in a row, (B, T, 3, H, W); up to 17 frames come back as they are.
    """
    front = slice(CHUNK - 1, video.shape[1] - 1, CHUNK)
    back = slice(CHUNK, video.shape[1], CHUNK)
    out = video.clone()
    out[:, back] = SEAM * video[:, back] + (1 - SEAM) * video[:, front]
    out[:, front] = SEAM * video[:, front] + (1 - SEAM) * out[:, back]
    return out


# 17 x 32 x 32 -> 3 x 2 x 2 latents. Widths are multiples of eight: kernels like them.
_TINY = VideoVAEConfig(
    height=32,
    width=32,
    latent_channels=4,
    encoder_channels=8,
    encoder_multipliers=(1, 2, 4, 4),
    decoder_channels=8,
    decoder_multipliers=(1, 1, 2, 4),
    num_res_blocks=1,
    groups=2,  # four channels and more to a group, as in the published sizes
    kl_weight=0.1,  # a run of some hundred steps needs a stronger pull than one of 10^5
    perceptual_weight=0.1,
    perceptual_network="world",  # values about ten times LPIPS's
    gan_weight=0.1,
    gan_start=200,
    discriminator_channels=16,
    discriminator_layers=2,
)

PRESETS: dict[str, VideoVAEConfig] = {
    "tiny": _TINY,
    # The published proportions of widths in encoder and decoder; the book's weights.
    "world-32": replace(
        _TINY,
        latent_channels=8,
        decoder_multipliers=(1, 2, 4, 4),
        squared=True,
        kl_weight=0.01,
        perceptual_weight=0.0,  # two fifths more time a step; an hour has none to spare
    ),
    "video-vae-v1": VideoVAEConfig(
        latent_channels=16, patchify=False, frame_norm=False, published_params=258_828_195
    ),
    "video-vae-v2": VideoVAEConfig(published_params=498_818_819),
}


def build(config: VideoVAEConfig) -> VideoVAE:
    """The autoencoder of a configuration, untrained."""
    return VideoVAE(config)


def example(config: VideoVAEConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros): one chunk of 17 frames."""
    size = config.height, config.width
    return {"video": torch.zeros(batch_size, CHUNK, 3, *size, device=device)}
