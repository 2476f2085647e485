"""VQGAN: an image becomes a grid of codes, made sharp by an adversary (Esser et al. 2021, 3.1).

Convolutional encoder, nearest code of a learned table, convolutional decoder. Trained by absolute
error, a perceptual distance, the commitment term and, once the rest has settled, a patch
discriminator whose weight adapts itself. Published sizes look through LPIPS, small ones through a
classifier of the book (`gentok.base.perception`). One point where this book differs from the first
release: the codebook follows moving averages instead of a gradient (as in VQ-VAE's appendix A.1).

Shapes: B batch, H W pixels, h w grid (H / factor, W / factor), N = h w tokens, K codes, D channels.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.base.patch_game import PatchGame
from gentok.base.perception import perceived
from gentok.nn.conv import AttentionBlock2d, ConvDecoder, ConvEncoder, ResBlock
from gentok.nn.latents import LatentSpace, evaluating
from gentok.nn.quantize import VectorQuantizer


@dataclass(frozen=True)
class VQGANConfig:
    """Sizes and loss weights.

    Args:
        image_size: pixels of a side; the grid has image_size / 2^(stages - 1) rows.
        codebook_size: K; ``code_dim``: channels D of a code.
        channels, multipliers, num_res_blocks, attention_stages, groups: of the convolutional
            encoder and decoder, see :class:`gentok.nn.conv.ConvEncoder`.
        decay, commitment, dead_threshold: of the codebook, see
            :class:`gentok.nn.quantize.VectorQuantizer`.
        normalize_latents: scale each latent channel to unit variance over the batch before it is
            quantized (Lancucki et al. 2020); a short run otherwise spends all codes on brightness.
        perceptual_weight, perceptual_network: of the perceptual distance beside the absolute error;
            ``"vgg-lpips"`` as published, or a classifier of the book. Whoever trains loads it.
        gan_weight: factor on the adaptive weight of the adversarial term.
        gan_start: first training step at which the discriminator plays.
        discriminator_channels, discriminator_layers: of the patch discriminator.
        published_params: encoder, decoder, 1x1 convolutions and codebook; no discriminator.
    """

    image_size: int = 256
    codebook_size: int = 1024
    code_dim: int = 256
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    attention_stages: tuple[int, ...] = (4,)
    groups: int = 32
    decay: float = 0.99
    commitment: float = 0.25
    dead_threshold: float = 1.0
    normalize_latents: bool = False
    perceptual_weight: float = 1.0
    perceptual_network: str = "vgg-lpips"
    gan_weight: float = 0.8
    gan_start: int = 250_001
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    published_params: int | None = None

    @property
    def factor(self) -> int:
        """Pixels of an image side that share one token."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def grid(self) -> int:
        """Tokens of a side, h = w."""
        return self.image_size // self.factor


# 32x32 pixels, f=4: 8x8 tokens. Narrow where the pixels are many. For runs of minutes: latents of
# fixed scale and a weak commitment (or all codes go to brightness), a codebook that follows
# quickly, an early adversary.
_TINY = VQGANConfig(
    image_size=32,
    codebook_size=64,
    code_dim=8,
    channels=16,
    multipliers=(1, 2, 4),
    num_res_blocks=1,
    attention_stages=(),
    groups=4,
    decay=0.95,
    commitment=0.01,
    normalize_latents=True,
    perceptual_weight=0.2,
    perceptual_network="world",  # values about ten times LPIPS's
    gan_weight=0.2,
    gan_start=600,
    discriminator_channels=16,
    discriminator_layers=2,
)
PRESETS: dict[str, VQGANConfig] = {
    "tiny": _TINY,
    # The book's own for the procedural world, whose trained weights are `base/vqgan`.
    "world-32": replace(_TINY, codebook_size=256, channels=24, gan_start=3600),
    "vqgan-f16-1024": VQGANConfig(published_params=72_141_699),  # the tokenizer size ENAT uses
    "vqgan-f16-16384": VQGANConfig(codebook_size=16384, published_params=76_073_859),
}


class VQGAN(nn.Module):
    """The tokenizer: images to codes and back.

    Raises:
        ValueError: if the encoder's factor does not divide ``config.image_size``.
    """

    def __init__(self, config: VQGANConfig):
        super().__init__()
        if config.image_size % config.factor:
            raise ValueError(
                f"image_size must be a multiple of {config.factor}, got {config.image_size}"
            )
        self.config = config
        sizes = {
            "channels": config.channels,
            "multipliers": config.multipliers,
            "num_res_blocks": config.num_res_blocks,
            "attention_stages": config.attention_stages,
            "groups": config.groups,
        }
        self.encoder = ConvEncoder(3, config.code_dim, **sizes)
        self.before = nn.Conv2d(config.code_dim, config.code_dim, 1)
        batch_norm = nn.BatchNorm2d(config.code_dim, affine=False)
        self.scale = batch_norm if config.normalize_latents else nn.Identity()
        self.quantizer = VectorQuantizer(
            config.codebook_size,
            config.code_dim,
            decay=config.decay,
            commitment=config.commitment,
            dead_threshold=config.dead_threshold,
        )
        self.after = nn.Conv2d(config.code_dim, config.code_dim, 1)
        self.decoder = ConvDecoder(config.code_dim, 3, **sizes)
        # Residual branches start at zero (paper: not stated), so that colours get through at once.
        for layer in self.modules():
            if isinstance(layer, ResBlock):
                nn.init.zeros_(layer.conv2.weight)
            elif isinstance(layer, AttentionBlock2d):
                nn.init.zeros_(layer.proj.weight)

    @property
    def latent_space(self) -> LatentSpace:
        """N = h w codes an image."""
        config = self.config
        return LatentSpace("discrete", (config.grid**2,), "image", config.codebook_size)

    def latents(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> continuous latents (B, h, w, D), not yet quantized.

        Raises:
            ValueError: if ``x`` is not a float batch of RGB images of a multiple of the factor.
        """
        _check_images(x, self.config.factor)
        return self.scale(self.before(self.encoder(x))).permute(0, 2, 3, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> codes (B, N), int64 in [0, K), raster order.

        Moves neither the codebook nor the scale of the latents, whatever the training mode.
        """
        with evaluating(self):
            return self.quantizer(self.latents(x))[1].flatten(1)  # (B, h, w) -> (B, N)

    def decode(self, codes: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Codes (B, N), int64 -> images (B, 3, H, W), about [-1, 1].

        Args:
            codes: in raster order.
            grid: rows and columns (h, w) of the codes; a square if None.

        Raises:
            ValueError: if the codes do not fill the grid or one lies outside [0, K).
        """
        side = round(codes.shape[-1] ** 0.5)
        grid = (side, side) if grid is None else grid
        if codes.ndim != 2 or math.prod(grid) != codes.shape[1]:
            raise ValueError(
                f"codes must be (B, N) that fill a grid of {grid[0]} x {grid[1]}, "
                f"got {tuple(codes.shape)}; grid says how they lie if not in a square"
            )
        return self._decode(self.quantizer.lookup(codes).unflatten(1, grid))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct images.

        Returns:
            reconstruction (B, 3, H, W); codes (B, N); commitment loss, scalar.
        """
        z_q, codes, commitment = self.quantizer(self.latents(x))
        return self._decode(z_q), codes.flatten(1), commitment

    def reconstruct_still(self, x: Tensor) -> Tensor:
        """Reconstruct images (B, 3, H, W) as training does, but without moving the codebook.

        A batch norm in training mode scales by the batch, as it does for the tokenizer's own loss.
        """
        training = self.quantizer.training
        self.quantizer.eval()
        try:
            codes = self.quantizer(self.latents(x))[1]  # (B, h, w)
        finally:
            self.quantizer.train(training)
        return self._decode(self.quantizer.lookup(codes))

    def loss(
        self, batch: dict, step: int = 0, features: nn.Module | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The tokenizer's loss without its adversary (equation 4 with L1 and a perceptual term).

        Args:
            batch: ``{"image": (B, 3, H, W) in [-1, 1]}``.
            step: training step; the adversary-free loss does not depend on it.
            features: network of the perceptual term as :func:`gentok.base.perception.perceived`
                takes it, held still; None leaves the term out.
        """
        _, total, parts = self.reconstruct(batch["image"], features)
        return total, parts

    def reconstruct(
        self, x: Tensor, features: nn.Module | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Reconstruction (B, 3, H, W), total loss and named parts, in one pass."""
        x_hat, _, commitment = self(x)
        absolute = F.l1_loss(x_hat, x)
        total = absolute + commitment
        parts = {"l1": absolute.detach(), "commitment": commitment.detach()}
        if features is not None:
            perceptual = perceived(features, x, x_hat).mean()
            total = total + self.config.perceptual_weight * perceptual
            parts["perceptual"] = perceptual.detach()
        return x_hat, total, parts

    def _decode(self, z_q: Tensor) -> Tensor:
        return self.decoder(self.after(z_q.permute(0, 3, 1, 2)))


class AdversarialVQGAN(PatchGame):
    """The game that trains a :class:`VQGAN`: tokenizer against patch discriminator."""

    def reconstruct(self, batch: dict) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Of ``batch["image"]``, (B, 3, H, W) in [-1, 1]."""
        return self.tokenizer.reconstruct(batch["image"], self.features)

    @torch.no_grad()
    def pairs(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Images and their reconstructions, (B, 3, H, W) each."""
        return batch["image"], self.tokenizer.reconstruct_still(batch["image"])

    @property
    def last_weight(self) -> nn.Parameter:
        """Of the decoder's last convolution."""
        return self.tokenizer.decoder.conv_out.weight


def build(config: VQGANConfig) -> VQGAN:
    """The tokenizer alone; wrap it in :class:`AdversarialVQGAN` to train with an adversary."""
    return VQGAN(config)


def example(config: VQGANConfig, batch_size: int = 1, device: str = "meta") -> dict:
    """A batch of the right shape for ``loss``: ``{"image": (B, 3, H, W)}``."""
    size = config.image_size
    return {"image": torch.zeros(batch_size, 3, size, size, device=device)}


def _check_images(x: Tensor, factor: int) -> None:
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % factor or x.shape[3] % factor:
        raise ValueError(
            f"images must be (B, 3, H, W) with H and W multiples of {factor}, got {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise ValueError(f"images must be float in [-1, 1], got {x.dtype}")
