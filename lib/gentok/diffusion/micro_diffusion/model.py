"""MicroDiT: a text-to-image diffusion transformer that trains on a quarter of its tokens.

Sehwag et al. 2024 (arXiv:2407.15811), details as in the public code. A light patch mixer sees all
patches; only then are most tokens dropped, and the large backbone works on those that are left.
They carry what the mixer told them of the others, which tokens dropped at the input could not. The
loss is that of the kept patches. A short training without masking follows. Sampling drops nothing,
and runs the mixer too.

Noise levels, preconditioning and sampler are EDM's (Karras et al. 2022), with sigma_data 0.9.

Shapes: B batch, C latent channels, h w latent grid, p patch, T = (h/p)(w/p) tokens, M of them kept,
L places of a caption, E its channels, D width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.diffusion.micro_diffusion.config import BlockSize, MicroDiTConfig
from gentok.diffusion.micro_diffusion.layers import (
    CaptionAttention,
    CaptionBlock,
    Head,
    MicroBlock,
    NormedMlp,
    TimeMlp,
    norm,
    positions_2d,
    self_attention,
)
from gentok.nn.experts import ExpertChoice, TokenChoice
from gentok.nn.latents import NormalizedChannels, evaluating
from gentok.nn.token_masks import put_tokens, random_keep, take_tokens
from gentok.nn.transformer import SwiGLU, init_linears_xavier
from gentok.process.edm import Preconditioner, edm_sample, karras_sigmas, lognormal_sigmas
from gentok.process.flow import expand
from gentok.process.guidance import guide

MIXTURES = {"expert-choice": ExpertChoice, "token-choice": TokenChoice}


def make_block(config: MicroDiTConfig, dim: int, size: BlockSize, std: float) -> MicroBlock:
    """A block of width ``dim`` whose condition has the backbone's width."""
    if size.experts:
        mixture = MIXTURES[config.router]
        mlp = mixture(dim, size.hidden, config.num_experts, config.capacity)
    else:
        mlp = SwiGLU(dim, size.hidden, bias=False)
    attention = self_attention(dim, size.attention, config.head_dim)
    caption = CaptionAttention(dim, config.head_dim)
    return MicroBlock(dim, config.dim, attention, caption, mlp, std)


class PatchMixer(nn.Module):
    """The light transformer that sees every patch; it may be narrower than the backbone."""

    def __init__(self, config: MicroDiTConfig):
        super().__init__()
        dim, narrow = config.dim, config.mixer_dim
        same = dim == narrow
        self.narrow_x = nn.Identity() if same else self._map(dim, narrow)
        self.narrow_y = nn.Identity() if same else self._map(dim, narrow)
        self.widen = nn.Identity() if same else self._map(narrow, dim)
        std = 0.02 / (2 * config.depth) ** 0.5  # the backbone's depth, not the mixer's
        self.blocks = nn.ModuleList(
            make_block(config, narrow, size, std) for size in config.mixer()
        )

    @staticmethod
    def _map(dim: int, out: int) -> nn.Sequential:
        return nn.Sequential(norm(dim), nn.Linear(dim, out, bias=False))

    def forward(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """Tokens (B, T, D), caption (B, L, D), condition (B, D) -> (B, T, narrow).

        `widen` maps to D again: after the masking, which spares it most of its work.
        """
        x, y = self.narrow_x(x), self.narrow_y(y)
        for block in self.blocks:
            x = block(x, y, c)
        return x


class MicroDiT(NormalizedChannels):
    """The raw output F of EDM's denoiser, given noise level and caption; its loss, its sampler.

    Latents go in and come out as the tokenizer makes them. The network works on latents of standard
    deviation ``sigma_data``: by a published tokenizer's fixed factor, or by `set_statistics`.
    """

    def __init__(self, config: MicroDiTConfig):
        super().__init__(config.in_channels, "(B, C, h, w)")
        self.config, dim = config, config.dim
        if config.latent_scale is not None:
            self.latent_std.fill_(config.sigma_data / config.latent_scale)
        self.edm = Preconditioner(config.sigma_data)
        self.patchify = nn.Conv2d(config.in_channels, dim, config.patch_size, config.patch_size)
        table = positions_2d(config.grid, dim, config.position_scale)
        self.register_buffer("position", table, persistent=False)  # (T, D)
        self.time = TimeMlp(dim)
        self.caption = NormedMlp(config.caption_dim, dim)
        self.caption_block = CaptionBlock(dim, config.head_dim, config.caption_hidden)
        self.pooled = NormedMlp(dim, dim)
        self.mixer = PatchMixer(config)
        self.blocks = nn.ModuleList(
            make_block(config, dim, size, 0.02 / (2 * (i + 1)) ** 0.5)
            for i, size in enumerate(config.backbone())
        )
        self.head = Head(dim, config.patch_values)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier, then what the layers say of themselves; the first answer is zero."""
        init_linears_xavier(self)
        nn.init.xavier_uniform_(self.patchify.weight.view(self.config.dim, -1))
        parts = (self.time, self.caption, self.caption_block, self.pooled, self.head)
        for part in (*parts, *self.mixer.blocks, *self.blocks):
            part.initialise()

    # --- network ----------------------------------------------------------------------------------

    def forward(
        self, x: Tensor, c_noise: Tensor, caption: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """F(c_in x; c_noise, caption).

        Args:
            x: noisy latents of unit variance, (B, C, h, w).
            c_noise: ln(sigma) / 4, (B,).
            caption: states of the text encoder, (B, L, E); zeros stand for "no caption". All places
                are read, padding too.
            keep: places of the tokens that the backbone works on, (B, M) int64; None: all.

        Returns:
            (B, C, h, w), zero where a patch was dropped.

        Raises:
            ValueError: if latents or captions have another shape.
        """
        config = self.config
        self._check(x, caption)
        tokens = self.patchify(x).flatten(2).transpose(1, 2).contiguous() + self.position
        y = self.caption_block(self.caption(caption))  # (B, L, D)
        c = self.time(c_noise) + self.pooled(y.mean(1))  # (B, D)
        if keep is not None and config.masking == "naive":
            tokens = take_tokens(tokens, keep)
        tokens = self.mixer(tokens, y, c)
        if keep is not None and config.masking == "deferred":
            tokens = take_tokens(tokens, keep)
        tokens = self.mixer.widen(tokens)  # (B, M, D)
        for block in self.blocks:
            tokens = block(tokens, y, c)
        tokens = self.head(tokens, c)  # (B, M, p p C)
        if keep is not None:
            tokens = put_tokens(tokens, keep, config.num_tokens)
        return self._unpatchify(tokens)

    def _unpatchify(self, tokens: Tensor) -> Tensor:
        """(B, T, p p C) -> (B, C, h, w)."""
        p, grid = self.config.patch_size, self.config.grid
        x = tokens.unflatten(2, (p, p, -1)).unflatten(1, (grid, grid))  # (B, gh, gw, p, p, C)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    def _check(self, x: Tensor, caption: Tensor) -> None:
        config = self.config
        if x.shape[1:] != config.latent_shape:
            wanted = ", ".join(map(str, config.latent_shape))
            raise ValueError(f"x must be (B, {wanted}), got {tuple(x.shape)}")
        if caption.ndim != 3 or len(caption) != len(x) or caption.shape[2] != config.caption_dim:
            raise ValueError(
                f"caption must be ({len(x)}, L, {config.caption_dim}), got {tuple(caption.shape)}"
            )

    # --- objective --------------------------------------------------------------------------------

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """EDM's weighted squared error on the patches that are kept.

        Args:
            batch: ``latent`` (B, C, h, w) as the tokenizer makes them; ``caption`` (B, L, E).
            step: of the training; from ``unmasked_from`` on nothing is dropped.

        Returns:
            total, scalar; part ``edm``, the same.
        """
        config, x = self.config, self.scaled(batch["latent"])
        caption = self._dropped(batch["caption"])
        sigma = lognormal_sigmas(len(x), config.sigma_mean, config.sigma_std, x.device)
        noise, ratio = torch.randn_like(x), self.ratio_at(step)
        keep = random_keep(len(x), config.num_tokens, ratio, x.device) if ratio > 0 else None
        total = self.errors(x, noise, sigma, caption, keep).mean()
        return total, {"edm": total.detach()}

    def ratio_at(self, step: int) -> float:
        """Share of tokens that a training step drops; 0 in eval mode."""
        end = self.config.unmasked_from
        masked = self.training and (end is None or step < end)
        return self.config.mask_ratio if masked else 0.0

    def errors(
        self, x: Tensor, noise: Tensor, sigma: Tensor, caption: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """lambda(sigma) |D(x + sigma n) - x|^2, the mean over kept patches of each sample.

        Args:
            x: clean latents at the network's scale (`scaled`), (B, C, h, w); ``noise``: n, alike.
            sigma: (B,); ``caption``: (B, L, E); ``keep``: as in `forward`.

        Returns:
            (B,).
        """
        denoised = self.edm.denoise(
            lambda scaled, c_noise: self(scaled, c_noise, caption, keep),
            x + expand(sigma, x) * noise,
            sigma,
        )
        error = self.edm.weighted_error(denoised, x, sigma).mean(1, keepdim=True)  # (B, 1, h, w)
        patches = F.avg_pool2d(error, self.config.patch_size).flatten(1)  # (B, T)
        return (patches if keep is None else patches.gather(1, keep)).mean(1)

    def scaled(self, z: Tensor) -> Tensor:
        """Latents of the tokenizer -> latents of standard deviation ``sigma_data``."""
        return self.normalize(z) * self.config.sigma_data

    def _dropped(self, caption: Tensor) -> Tensor:
        """In training, some captions wholly zero: what "no caption" is at sampling, too."""
        if not self.training or self.config.caption_drop == 0:
            return caption
        kept = torch.rand(len(caption), 1, 1, device=caption.device) >= self.config.caption_drop
        return caption * kept

    # --- sampler ----------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        n: int,
        caption: Tensor,
        *,
        num_steps: int = 30,
        guidance_scale: float = 5.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Draw latents by Heun's method on EDM's noise levels; nothing is dropped.

        Args:
            n: how many.
            caption: states of their captions, (n, L, E).
            num_steps: N; the network is asked 2 N - 1 times.
            guidance_scale: w in F_u + w (F_c - F_u), on the raw outputs; up to 1 means none.
            noise: standard Gaussian, (n, C, h, w); drawn if None.

        Returns:
            latents on the tokenizer's scale, (n, C, h, w).

        Raises:
            ValueError: if captions or noise are not n, or ``num_steps`` is below 1.
        """
        shape, device = (n, *self.config.latent_shape), self.latent_mean.device
        if noise is not None and noise.shape != shape:
            raise ValueError(f"noise must be {shape}, got {tuple(noise.shape)}")
        if len(caption) != n:
            raise ValueError(f"need n={n} captions, got {len(caption)}")
        sigmas = karras_sigmas(num_steps)
        noise = torch.randn(shape, device=device) if noise is None else noise.to(device)
        network = self.guided(caption.to(device), guidance_scale)
        with evaluating(self):
            z = edm_sample(lambda x, s: self.edm.denoise(network, x, s), noise, sigmas)
        return self.denormalize(z / self.config.sigma_data)

    def guided(self, caption: Tensor, scale: float) -> Callable[[Tensor, Tensor], Tensor]:
        """The raw output F as a function of (x, c_noise), guided away from "no caption"."""
        if scale <= 1:
            return lambda x, c_noise: self(x, c_noise, caption)
        captions = torch.cat([caption, torch.zeros_like(caption)])

        def network(x: Tensor, c_noise: Tensor) -> Tensor:
            both = self(torch.cat([x, x]), c_noise.repeat(2), captions)
            return guide(*both.chunk(2), scale)

        return network


def build(config: MicroDiTConfig) -> MicroDiT:
    """The model of a configuration, untrained."""
    return MicroDiT(config)


def continued(model: MicroDiT, config: MicroDiTConfig) -> MicroDiT:
    """The same weights under another configuration: another resolution, objective or masking.

    Positions are a fixed table of the new configuration; nothing else depends on the resolution.

    Raises:
        ValueError: if the weights do not fit.
    """
    other = build(config).to(model.latent_mean.device)
    try:
        other.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise ValueError(f"config: the weights do not fit it: {error}") from error
    return other


def example(config: MicroDiTConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    shape = (batch_size, config.caption_length, config.caption_dim)
    return {
        "latent": torch.zeros(batch_size, *config.latent_shape, device=device),
        "caption": torch.zeros(shape, device=device),
    }
