"""RAE: a tokenizer whose encoder is a frozen representation and whose decoder alone is trained.

Zheng et al. 2025, Diffusion Transformers with Representation Autoencoders (arXiv:2510.11690),
section 3, and its public code. No compression, no KL, no alignment: the tokens of a pretrained
encoder are the latent, and a ViT in the manner of MAE's decoder paints the pixels. The decoder is
trained on noisy tokens, because a generator's tokens will not be exact either.

Shapes: B batch, H W pixels, N = g^2 tokens of C channels, z (B, C, g, g), p patch.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.base.foundation import FrozenNetwork
from gentok.base.perception import perceived, perceptual_network
from gentok.latents.rae.decoder import ViTDecoder
from gentok.latents.rae.discriminator import FeatureDiscriminator, diff_augment, quantise
from gentok.latents.rae.encoder import (
    EncoderConfig,
    RepresentationEncoder,
    frozen_encoder,
    pixel_statistics,
)
from gentok.nn.latents import LatentSpace
from gentok.nn.player import Player, frozen
from gentok.process.adversarial import adaptive_weight, discriminator_hinge, generator_hinge

NOISES = ("half-normal", "uniform")
DINO_S8 = EncoderConfig(
    name="facebook/dino-vits8",
    family="vit",
    image_size=224,
    patch_size=8,
    dim=384,
    depth=12,
    num_heads=6,
    interpolation="bilinear",
)


@dataclass(frozen=True)
class RAEConfig:
    """Sizes and loss weights; the defaults are the paper's DINOv2-B with the ViT-XL decoder.

    Args:
        encoder: the frozen encoder.
        patch_size: p of the decoder, pixels a token; it need not be the encoder's.
        grid: tokens along one side of the decoder's output; latents of another size are resized.
        dim, depth, num_heads, hidden: h, blocks, heads and MLP width of the decoder.
        noise: tau, the scale of the noise on training tokens; 0 for none.
        noise_law: ``"half-normal"``: sigma = |N(0, tau^2)| for each sample, as the paper says;
            ``"uniform"``: sigma = tau U(0, 1), as the released code does.
        perceptual_weight, perceptual_network: of the perceptual term; ``"vgg-lpips"`` as published,
            or a small substitute (see `gentok.base.perception`).
        gan_weight: 0 builds no discriminator; ``discriminator_start`` and ``gan_start`` are the
            steps from which it learns and from which the decoder hears it. Published: epochs 6 and
            8 of 16, at 2,502 steps each.
        discriminator: the frozen network that the discriminator looks through.
        discriminator_taps: its blocks whose tokens are judged, besides the last layer.
        published_params: trainable parameters of the decoder, as counted from the public code.
    """

    encoder: EncoderConfig = EncoderConfig()
    patch_size: int = 16
    grid: int = 16
    dim: int = 1152
    depth: int = 28
    num_heads: int = 16
    hidden: int = 4096
    noise: float = 0.8
    noise_law: str = "half-normal"
    perceptual_weight: float = 1.0
    perceptual_network: str = "vgg-lpips"
    gan_weight: float = 0.75
    discriminator_start: int = 15_012
    gan_start: int = 20_016
    discriminator: EncoderConfig = DINO_S8
    discriminator_taps: tuple[int, ...] = (2, 5, 8, 11)
    published_params: int | None = None

    def __post_init__(self):
        if self.noise_law not in NOISES:
            raise ValueError(f"unknown noise_law {self.noise_law!r}; accepted: {NOISES}")
        if self.noise < 0:
            raise ValueError(f"noise must be 0 or more, got {self.noise}")

    @property
    def image_size(self) -> int:
        """Height and width of a decoded image, pixels."""
        return self.grid * self.patch_size

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, g, g): what the generator sees."""
        return (self.encoder.dim, self.encoder.grid, self.encoder.grid)


class RAE(nn.Module):
    """A frozen encoder, which is no part of the module's parameters, and a trained decoder."""

    def __init__(self, config: RAEConfig):
        super().__init__()
        self.config = config
        self.decoder = ViTDecoder(
            config.encoder.dim,
            config.grid,
            config.patch_size,
            config.dim,
            config.depth,
            config.num_heads,
            config.hidden,
        )
        self.discriminator = None
        if config.gan_weight > 0:
            self.discriminator = FeatureDiscriminator(
                config.discriminator.dim, len(config.discriminator_taps) + 1
            )
        mean, std = pixel_statistics(config.encoder)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self._encoder = frozen_encoder(config.encoder)
        self._eyes = frozen_encoder(config.discriminator)
        self._perceptual_network = perceptual_network(config.perceptual_network)

    # --- tokenizer --------------------------------------------------------------------------------

    def see_through(self, encoder: RepresentationEncoder) -> "RAE":
        """Take this encoder, instead of reading one by its name; returns the model itself."""
        self._encoder = FrozenNetwork(lambda: encoder)
        return self

    def read_networks(self, folder: str | Path) -> "RAE":
        """Read the encoder, and the discriminator's, from a folder; returns the model itself.

        The configuration, and so a checkpoint, does not name the folder: a run may move.
        """
        name = str(folder)
        self._encoder = frozen_encoder(replace(self.config.encoder, name=name))
        self._eyes = frozen_encoder(replace(self.config.discriminator, name=name))
        return self

    @property
    def latent_space(self) -> LatentSpace:
        """(C, g, g) floats an image."""
        return LatentSpace("continuous", self.config.latent_shape, "image")

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> latents (B, C, g, g), each token of mean 0, variance 1.

        Raises:
            ValueError: if shape, dtype or range of ``x`` is not as stated.
            FileNotFoundError: if the encoder's weights are not there.
        """
        _check_image(x)
        tokens = self._encoder.on(x.device)(x)  # (B, N, C)
        return tokens.transpose(1, 2).unflatten(2, self.config.latent_shape[1:])

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, C, g, g) -> images (B, 3, H, W) near [-1, 1], not clamped.

        Raises:
            ValueError: if ``z`` has another number of channels.
        """
        if z.ndim != 4 or z.shape[1] != self.config.encoder.dim:
            raise ValueError(
                f"z must be (B, {self.config.encoder.dim}, g, g), got {tuple(z.shape)}"
            )
        # The decoder speaks the encoder's pixel units, which have mean 0 and variance 1.
        return 2 * (self.decoder(z) * self.std + self.mean) - 1

    def add_noise(self, z: Tensor) -> Tensor:
        """z + sigma eps, with one sigma for each sample (paper, 3.3)."""
        shape, tau = (len(z), 1, 1, 1), self.config.noise
        if self.config.noise_law == "half-normal":
            sigma = tau * torch.randn(shape, device=z.device).abs()
        else:
            sigma = tau * torch.rand(shape, device=z.device)
        return z + sigma * torch.randn_like(z)

    def decoder_parameters(self) -> int:
        """Trainable parameters of the decoder: what the paper's table counts."""
        return sum(p.numel() for p in self.decoder.parameters() if p.requires_grad)

    # --- objective --------------------------------------------------------------------------------

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 + perceptual + (from ``gan_start``) balanced adversarial term (paper, appendix).

        Args:
            batch: ``image`` (B, 3, H, W) in [-1, 1].
            step: training step.

        Returns:
            total, scalar; parts without their weights: ``l1`` (per value of images in [0, 1], as
            the public code has it), ``perceptual``, ``gan``.
        """
        config, x = self.config, batch["image"]
        x_hat = self._reconstruct(x)
        parts = {"l1": (x - x_hat).abs().mean() / 2}
        fidelity = parts["l1"]
        if config.perceptual_weight > 0:
            network = self._perceptual_network.on(x.device)
            parts["perceptual"] = perceived(network, x, x_hat).mean()
            fidelity = fidelity + config.perceptual_weight * parts["perceptual"]
        total = fidelity
        if self.discriminator is not None and step >= config.gan_start:
            with frozen(self.discriminator):
                parts["gan"] = generator_hinge(self._judge(x_hat))
            weight = self._balance(fidelity, parts["gan"])
            total = fidelity + config.gan_weight * weight * parts["gan"]
        return total, {name: part.detach() for name, part in parts.items()}

    def discriminator_loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss on images and on reconstructions of 8 bits; 0 before its start."""
        if step < self.config.discriminator_start:
            # A loss of zero that still reaches every parameter, so that any trainer can step.
            nothing = sum(p.sum() for p in self.discriminator.parameters()) * 0.0
            return nothing, {"hinge": nothing.detach()}
        x = batch["image"]
        with torch.no_grad():
            x_hat = quantise(self._reconstruct(x))
        real, fake = self._judge(x), self._judge(x_hat)
        loss = discriminator_hinge(real, fake)
        parts = {"hinge": loss, "real": real.mean(), "fake": fake.mean()}
        return loss, {name: part.detach() for name, part in parts.items()}

    def players(self) -> list[Player]:
        """The decoder, and the discriminator if there is one."""
        own = [p for p in self.decoder.parameters() if p.requires_grad]
        players = [Player("decoder", own, self.loss)]
        if self.discriminator is not None:
            against = list(self.discriminator.parameters())
            players.append(Player("discriminator", against, self.discriminator_loss))
        return players

    def _reconstruct(self, x: Tensor) -> Tensor:
        """Images -> decoded images, from noisy tokens in training mode only."""
        z = self.encode(x)
        return self.decode(self.add_noise(z) if self.training and self.config.noise > 0 else z)

    def _judge(self, x: Tensor) -> Tensor:
        """Augmented images -> the discriminator's logits, (B, heads * N')."""
        eyes = self._eyes.on(x.device)
        return self.discriminator(eyes.layers(diff_augment(x), self.config.discriminator_taps))

    def _balance(self, fidelity: Tensor, gan: Tensor) -> Tensor | float:
        """Ratio of gradient norms at the last layer; 1 where there is no gradient."""
        weight = self.decoder.head.weight
        if not torch.is_grad_enabled() or weight.is_meta:
            return 1.0
        return adaptive_weight(fidelity, gan, weight, epsilon=1e-6)


def _check_image(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"image must be float in [-1, 1], got {image.dtype}")
    if not image.is_meta and (top := float(image.detach().abs().max())) > 1 + 1e-3:
        raise ValueError(f"image must lie in [-1, 1], got a value of size {top:.3g}")


# --- presets --------------------------------------------------------------------------------------

SIGLIP2_B = EncoderConfig("google/siglip2-base-patch16-256", "siglip", 256, 16)
MAE_B = EncoderConfig("facebook/vit-mae-base", "vit_mae", 256, 16)
_B = {"dim": 768, "depth": 12, "num_heads": 12, "hidden": 3072}
_L = {"dim": 1024, "depth": 24, "num_heads": 16, "hidden": 4096}
_XL = RAEConfig(published_params=415_056_640)
# The encoder of `small_mae`, at the place where the recipe and the chapter put its checkpoint.
_SMALL = EncoderConfig("small-mae", "vit_mae", 32, 4, dim=64, depth=4, num_heads=4)
# For pictures of 32 pixels. The perceptual substitute's values are about ten times LPIPS's.
_SIDE_32 = RAEConfig(
    encoder=_SMALL,
    patch_size=4,
    grid=8,
    dim=64,
    depth=3,
    num_heads=4,
    hidden=256,
    perceptual_weight=0.1,
    perceptual_network="world",
    discriminator=replace(_SMALL, interpolation="bilinear"),
    discriminator_taps=(0, 1, 2, 3),
)
PRESETS: dict[str, RAEConfig] = {
    "tiny": replace(_SIDE_32, discriminator_start=150, gan_start=200),
    # The book's own: plain shapes of 32 pixels, in the profile `long`.
    "world-32": replace(_SIDE_32, dim=128, depth=4, hidden=512),
    # The chapter's study: a minute of one core, without the adversary.
    "study-32": replace(_SIDE_32, gan_weight=0.0),
    "vit-b": replace(_XL, **_B, published_params=86_237_952),
    "vit-l": replace(_XL, **_L, published_params=303_887_104),
    "vit-xl": _XL,
    "vit-xl-code": replace(_XL, noise_law="uniform"),
    "siglip2-b": replace(_XL, encoder=SIGLIP2_B),
    "mae-b": replace(_XL, encoder=MAE_B),
    # 512 pixels: from 1024 tokens, or from the same 256 tokens with patches twice as wide.
    "vit-xl-512": replace(_XL, encoder=EncoderConfig(image_size=448), grid=32),
    "vit-xl-upsample": replace(_XL, patch_size=32, published_params=None),
}


def build(config: RAEConfig) -> RAE:
    """The model of a configuration: the decoder untrained, the encoder read when first needed."""
    return RAE(config)


def example(config: RAEConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    size = config.image_size
    return {
        "image": torch.zeros(batch_size, 3, size, size, device=device),
        "label": torch.zeros(batch_size, dtype=torch.int64, device=device),
    }
