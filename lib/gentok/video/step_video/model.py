"""Step-Video-T2V: a diffusion transformer with full attention over space and time.

Ma et al. 2025 (arXiv:2502.10248); the order of operations inside a block, the layout of weights and
the sampler follow the released inference code, which has no training part. Tokens are the latent
cells of `vae`; a prompt comes twice, from `text_encoders`. Trained by flow matching; t = 0 is noise
and t = 1 data here as in the paper.

What the sources leave open is this book's choice: the initialisation (Xavier, last layer zero, as
DiT), the density of training times (logit-normal, as SD3), and the share of training prompts that
are left empty for guidance (a tenth, by whoever makes the batches).

Shapes: B batch, T latent frames, C latent channels, h w latent grid, N = T (h/p) (w/p) tokens,
D width, H heads, d channels of a head, M text places.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.latents import NormalizedChannels
from gentok.nn.position import TimestepEmbedding
from gentok.nn.rope import grid_positions
from gentok.nn.transformer import init_linears_xavier
from gentok.process.flow import (
    euler_sample,
    flow_loss,
    interpolate,
    logit_normal_times,
    velocity,
)
from gentok.process.guidance import guide
from gentok.video.step_video.blocks import StepVideoBlock, TextProjection
from gentok.video.step_video.text_encoders import Text

# "Ultra-high definition, HDR video, ambient light, Dolby Atmos, steady picture, smooth motion,
# lifelike detail, professional composition, surrealism, natural, lively, very detailed, clear."
QUALITY = (
    "超高清、HDR 视频、环境光、杜比全景声、画面稳定、流畅动作、逼真的细节、专业级构图、"
    "超现实主义、自然、生动、超细节、清晰。"
)
# "Dark picture, low resolution, bad hands, text, missing fingers, extra fingers, cropped, low
# quality, grainy, signature, watermark, user name, blurred."
FAULTS = (
    "画面暗、低分辨率、不良手、文本、缺少手指、多余的手指、裁剪、低质量、颗粒状、签名、水印、"
    "用户名、模糊。"
)


@dataclass(frozen=True)
class StepVideoConfig:
    """Sizes of the transformer; the defaults are Step-Video-T2V's.

    Args:
        in_channels: C; ``patch_size``: p in space, 1 in the paper.
        depth, num_heads, head_dim: blocks, H, d; the width is D = H d.
        mlp_ratio: hidden width of the feed-forward layer in units of D.
        clip_dim, llm_dim: channels of the two text encoders.
        frames, height, width: T, h, w of the latents in :func:`example` and the default of
            ``sample``; other sizes are accepted everywhere.
        clip_length, llm_length: text places in :func:`example`.
        shift: bend of the sampler's time grid, see :func:`sampling_times`.
        guidance_scale: default scale of guidance; ``num_steps``: default number of Euler steps.
        prompt_suffix, negative_prompt: what :func:`dress` puts behind every prompt and leads away
            from; the defaults are the released ones.
        published_params: as computed from the released code; it is called a 30B model.
    """

    in_channels: int = 64
    patch_size: int = 1
    depth: int = 48
    num_heads: int = 48
    head_dim: int = 128
    mlp_ratio: int = 4
    clip_dim: int = 1024
    llm_dim: int = 6144
    frames: int = 36
    height: int = 34
    width: int = 62
    clip_length: int = 77
    llm_length: int = 320
    shift: float = 13.0
    guidance_scale: float = 9.0
    num_steps: int = 50
    prompt_suffix: str = QUALITY
    negative_prompt: str = FAULTS
    published_params: int | None = None

    def __post_init__(self):
        if self.head_dim % 8:
            raise ValueError(f"head_dim must be a multiple of 8, got {self.head_dim}")
        if self.height % self.patch_size or self.width % self.patch_size:
            raise ValueError(
                f"patch_size must divide height and width, got {self.patch_size}, "
                f"{self.height}, {self.width}"
            )

    @property
    def dim(self) -> int:
        """Width D."""
        return self.num_heads * self.head_dim

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(T, C, h, w)."""
        return (self.frames, self.in_channels, self.height, self.width)


class StepVideo(NormalizedChannels):
    """Velocity of noisy video latents, given time and prompt.

    The paper's latents are used as they are; `set_statistics` lets the model normalise each
    channel of a small tokenizer's.
    """

    def __init__(self, config: StepVideoConfig):
        super().__init__(config.in_channels, "(B, T, C, h, w)")
        self.config = config
        dim, values = config.dim, config.in_channels * config.patch_size**2
        self.patchify = nn.Linear(values, dim)
        self.text = TextProjection(config.clip_dim, config.llm_dim, dim)
        self.time = TimestepEmbedding(dim)
        self.modulation = nn.Linear(dim, 6 * dim)  # one for all blocks
        sizes = config.num_heads, config.head_dim, config.mlp_ratio
        self.blocks = nn.ModuleList(StepVideoBlock(*sizes) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.table = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.proj_out = nn.Linear(dim, values)
        init_linears_xavier(self)
        nn.init.zeros_(self.proj_out.weight)

    def forward(self, x: Tensor, t: Tensor, clip: Tensor, llm: Tensor, mask: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            x: noisy latents in the model's units, (B, T, C, h, w).
            t: times, (B,) in [0, 1].
            clip, llm, mask: the encoded prompts, see :class:`Text`.

        Returns:
            (B, T, C, h, w).

        Raises:
            ValueError: if C, the batch of the text or its channels are not the configured ones.
        """
        self._check(x, clip, llm)
        p = self.config.patch_size
        patches = x.unflatten(4, (-1, p)).unflatten(3, (-1, p))  # (B, T, C, h/p, p, w/p, p)
        patches = patches.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)  # (B, T, h/p, w/p, C p p)
        grid = patches.shape[1:4]
        tokens = self.patchify(patches.flatten(1, 3))  # (B, N, D)
        positions = grid_positions(*grid, device=x.device)
        text, mask = self.text(clip, llm, mask)
        embedded = self.time(1000 * t)  # (B, D)
        six = self.modulation(F.silu(embedded)).unflatten(-1, (6, -1))  # (B, 6, D)
        for block in self.blocks:
            tokens = block(tokens, positions, text, mask, six)
        shift, scale = (self.table + embedded[:, None]).chunk(2, dim=1)
        out = self.proj_out(self.norm_out(tokens) * (1 + scale) + shift)  # (B, N, C p p)
        out = out.unflatten(1, grid).unflatten(-1, (-1, p, p))  # (B, T, h/p, w/p, C, p, p)
        return out.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Flow matching: the squared error of the velocity at a random time.

        Args:
            batch: ``latent`` (B, T, C, h, w) as the tokenizer made them; ``clip``, ``llm``,
                ``mask`` as in :class:`Text`, a tenth of the prompts empty.
            step: not used.

        Returns:
            the mean squared velocity error, scalar, and the same as the part ``velocity``.
        """
        x = self.normalize(batch["latent"])
        noise, t = torch.randn_like(x), logit_normal_times(len(x), device=x.device)
        predicted = self(interpolate(x, noise, t), t, *_text_of(batch))
        total = flow_loss(predicted, velocity(x, noise))
        return total, {"velocity": total.detach()}

    def guided(self, text: Text, negative: Text | None, guidance_scale: float):
        """The velocity function (x, t) -> (B, ...) under guidance.

        Args:
            text: prompts; ``negative``: what to lead away from, an empty prompt for instance.
            guidance_scale: 1, or no ``negative``, asks the model with its prompt only.
        """
        if negative is None or guidance_scale == 1:
            return lambda x, t: self(x, t, *_text_of(text.batch()))
        both = _stack(text, negative)

        def velocity_fn(x: Tensor, t: Tensor) -> Tensor:
            out = self(torch.cat([x, x]), torch.cat([t, t]), *_text_of(both.batch()))
            return guide(*out.chunk(2), guidance_scale)

        return velocity_fn

    @torch.no_grad()
    def sample(
        self,
        n: int,
        text: Text,
        negative: Text | None = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        shift: float | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Draw latents for prompts, one each.

        Args:
            n: number of samples.
            text: n prompts; ``negative``: n prompts to lead away from.
            num_steps, guidance_scale, shift: the configuration's if None.
            noise: start, (n, T, C, h, w); drawn in the configured size if None.

        Returns:
            latents as the tokenizer's, (n, T, C, h, w).

        Raises:
            ValueError: if there are not n prompts.
        """
        config = self.config
        if len(text) != n:
            raise ValueError(f"text must hold n={n} prompts, got {len(text)}")
        if noise is None:
            device = self.latent_mean.device
            noise = torch.randn(len(text), *config.latent_shape, device=device)
        scale = config.guidance_scale if guidance_scale is None else guidance_scale
        shift = config.shift if shift is None else shift
        velocity_fn = self.guided(text, negative, scale)
        # The paper's bend acts on noise levels 1 - t; on times that is a division.
        x = euler_sample(velocity_fn, noise, num_steps or config.num_steps, shift=1 / shift)
        return self.denormalize(x)

    def _check(self, x: Tensor, clip: Tensor, llm: Tensor) -> None:
        config = self.config
        if x.ndim != 5 or x.shape[2] != config.in_channels:
            raise ValueError(f"x must be (B, T, {config.in_channels}, h, w), got {tuple(x.shape)}")
        found = len(clip), len(llm), clip.shape[-1], llm.shape[-1]
        if found != (len(x), len(x), config.clip_dim, config.llm_dim):
            raise ValueError(
                f"clip and llm must be ({len(x)}, L, {config.clip_dim}) and "
                f"({len(x)}, L, {config.llm_dim}), got {tuple(clip.shape)} and {tuple(llm.shape)}"
            )


def dress(config: StepVideoConfig, prompts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Prompts as the sampler asks them: each with the suffix, and as many negative ones."""
    return (
        [prompt + config.prompt_suffix for prompt in prompts],
        [config.negative_prompt] * len(prompts),
    )


def sampling_times(num_steps: int, shift: float) -> Tensor:
    """The sampler's grid of times, (num_steps + 1,), from 0 (noise) to 1.

    Noise levels s fall from 1 to 0 and are bent, s <- shift s / (1 + (shift - 1) s); times are
    1 - s. A shift above 1 spends more steps where there is much noise. For pictures and tests:
    ``sample`` reaches the same grid through `gentok.process.flow.shift_times`.
    """
    level = torch.linspace(1, 0, num_steps + 1)
    return 1 - shift * level / (1 + (shift - 1) * level)


def _text_of(batch: dict) -> tuple[Tensor, Tensor, Tensor]:
    return batch["clip"], batch["llm"], batch["mask"]


def _stack(first: Text, second: Text) -> Text:
    """Two batches of prompts in one, the shorter padded with masked places."""
    longest = max(first.llm.shape[1], second.llm.shape[1])
    parts = []
    for text in (first, second):
        extra = longest - text.llm.shape[1]
        parts.append((text.clip, F.pad(text.llm, (0, 0, 0, extra)), F.pad(text.mask, (0, extra))))
    return Text(*(torch.cat(pair) for pair in zip(*parts, strict=True)))


# For 3x2x2 latents of the tiny Video-VAE; few cells ask for little shift and guidance.
_TINY = StepVideoConfig(
    in_channels=4,
    depth=4,
    num_heads=4,
    head_dim=32,
    clip_dim=24,
    llm_dim=48,
    frames=3,
    height=2,
    width=2,
    clip_length=8,
    llm_length=16,
    shift=3.0,
    guidance_scale=3.0,
    num_steps=20,
    prompt_suffix="",
    negative_prompt="",  # the empty prompt, which a tenth of the training has seen
)

PRESETS: dict[str, StepVideoConfig] = {
    "tiny": _TINY,
    # For the latents of the Video-VAE of the same name; the book's weights.
    "world-32": replace(_TINY, in_channels=8, shift=1.0),
    # For studies, a model for every seed: a blob's place in each frame (`blobs`), and components of
    # blocks of clips (`patch_latents`).
    "study-blobs": replace(
        _TINY,
        in_channels=2,
        depth=2,
        head_dim=16,
        frames=8,
        height=1,
        width=1,
        shift=1.0,
        guidance_scale=1.0,
        num_steps=10,
    ),
    "study-blocks": replace(
        _TINY,
        in_channels=8,
        depth=3,
        head_dim=16,
        height=4,
        width=4,
        shift=1.0,
        guidance_scale=6.0,
    ),
    "step-video-t2v": StepVideoConfig(published_params=29_342_478_400),
}


def build(config: StepVideoConfig) -> StepVideo:
    """The transformer of a configuration, untrained."""
    return StepVideo(config)


def example(
    config: StepVideoConfig, batch_size: int = 1, device: str = "meta"
) -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    clip, llm = (config.clip_length, config.clip_dim), (config.llm_length, config.llm_dim)
    return {
        "latent": torch.zeros(batch_size, *config.latent_shape, device=device),
        "clip": torch.zeros(batch_size, *clip, device=device),
        "llm": torch.zeros(batch_size, *llm, device=device),
        "mask": torch.ones(batch_size, config.llm_length, dtype=torch.bool, device=device),
    }
