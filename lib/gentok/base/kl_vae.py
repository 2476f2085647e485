"""KL-VAE, the autoencoder of latent diffusion, and VA-VAE, the same with a vision-foundation loss.

KL-VAE: Rombach et al. 2022 (LDM), 3.1 and appendix G. VA-VAE: Yao et al. 2025. Values not in the
papers are those of their public code.

The published objective sums over an image's numbers: sum |x - x_hat| + LPIPS, + 1e-6 KL, + an
adversarial term whose weight keeps its gradient as large as the reconstruction's. Here all of it is
divided by the number of values in the image, so that losses compare across sizes; the caps of the
two adaptive weights are divided alike, which leaves the minimum where it was. (The public code also
has a learned scale exp(s) of the reconstruction, but hands s to no optimiser, so it stays at 1 and
is left out.)

Shapes: B batch, C image channels, H W pixels, z latent channels, h w = H / factor, W / factor.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gentok.base.foundation import VFLoss, feature_map, foundation_network
from gentok.base.perception import perceived, perceptual_network
from gentok.nn.conv import ConvDecoder, ConvEncoder
from gentok.nn.discriminator import PatchDiscriminator
from gentok.nn.latents import LatentSpace
from gentok.nn.player import Player, frozen
from gentok.process.adversarial import discriminator_hinge, generator_hinge, gradient_ratio
from gentok.process.gaussian import DiagonalGaussian

RECONSTRUCTIONS = ("l1", "l2")
# The public code's caps of the adaptive weights, for losses summed over an image's values.
GAN_CAP, VF_CAP = 1e4, 1e8


@dataclass(frozen=True)
class KLVAEConfig:
    """Sizes and loss weights of a KL-VAE; the defaults are KL-f8's.

    Args:
        image_size: height and width of the input, pixels (or coefficients of a sub-band).
        in_channels: C of the values that the network encodes: 3 for images, 9 or 12 for bands.
        input_range: largest absolute value that an input may have.
        latent_channels: z.
        channels, multipliers, num_res_blocks, groups: see `ConvEncoder`.
        attention_stages, decoder_attention_stages: the encoder's and the decoder's (counted from
            the largest image in both).
        quant_conv: whether 1x1 convolutions stand on both sides of the latent.
        reconstruction: ``"l1"`` or ``"l2"``.
        perceptual_weight, perceptual_network: of the perceptual term; ``"vgg-lpips"`` as published,
            or a small substitute (see `gentok.base.perception`).
        kl_weight: of the summed KL against the summed reconstruction.
        gan_weight: 0 builds no discriminator; ``gan_start`` is the step from which it plays.
        discriminator_channels, discriminator_layers: see `PatchDiscriminator`.
        vf_weight, vf_network, vf_channels, vf_margins: vision-foundation loss (VA-VAE); 0 for none.
        published_params: encoder, decoder and 1x1 convolutions, where a source states their sum.
    """

    image_size: int = 256
    in_channels: int = 3
    input_range: float = 1.0
    latent_channels: int = 4
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_stages: tuple[int, ...] = ()
    decoder_attention_stages: tuple[int, ...] = ()
    groups: int = 32
    quant_conv: bool = True
    reconstruction: str = "l1"
    perceptual_weight: float = 1.0
    perceptual_network: str = "vgg-lpips"
    kl_weight: float = 1e-6
    gan_weight: float = 0.5
    gan_start: int = 50_001
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    vf_weight: float = 0.0
    vf_network: str = "facebook/dinov2-large"
    vf_channels: int = 1024
    vf_margins: tuple[float, float] = (0.25, 0.5)
    published_params: int | None = None

    def __post_init__(self):
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"unknown reconstruction {self.reconstruction!r}; accepted: {RECONSTRUCTIONS}"
            )
        if self.image_size % self.factor:
            raise ValueError(
                f"image_size must be a multiple of {self.factor} for {len(self.multipliers)} "
                f"stages, got {self.image_size}"
            )

    @property
    def factor(self) -> int:
        """Pixels of the image along one side of a latent cell."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(z, h, w)."""
        side = self.image_size // self.factor
        return (self.latent_channels, side, side)


class KLVAE(nn.Module):
    """A convolutional autoencoder with a Gaussian posterior.

    Raises:
        ValueError: from the layers, if ``groups`` does not divide a width.
    """

    def __init__(self, config: KLVAEConfig):
        super().__init__()
        self.config = config
        z = config.latent_channels
        body = {
            "channels": config.channels,
            "multipliers": config.multipliers,
            "num_res_blocks": config.num_res_blocks,
            "groups": config.groups,
        }
        attention = config.attention_stages, config.decoder_attention_stages
        self.encoder = ConvEncoder(config.in_channels, 2 * z, **body, attention_stages=attention[0])
        self.decoder = ConvDecoder(z, config.in_channels, **body, attention_stages=attention[1])
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1) if config.quant_conv else nn.Identity()
        self.post_quant_conv = nn.Conv2d(z, z, 1) if config.quant_conv else nn.Identity()
        self.discriminator = self.vf = None
        if config.gan_weight > 0:
            self.discriminator = PatchDiscriminator(
                config.in_channels, config.discriminator_channels, config.discriminator_layers
            )
        if config.vf_weight > 0:
            self.vf = VFLoss(z, config.vf_channels, config.vf_margins)
        self._vf_network = foundation_network(config.vf_network)
        self._perceptual_network = perceptual_network(config.perceptual_network)

    # --- tokenizer --------------------------------------------------------------------------------

    @property
    def latent_space(self) -> LatentSpace:
        """(z, h, w) floats an image."""
        return LatentSpace("continuous", self.config.latent_shape, "image")

    def values(self, image: Tensor) -> Tensor:
        """What the network encodes of an image: here the image itself; bands in `fa_vae`."""
        return image

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        """Values (B, C, H, W) -> the Gaussian over latents (B, z, h, w).

        Raises:
            ValueError: if the shape, dtype or range of ``x`` is not the configured one.
        """
        self._check(x)
        return DiagonalGaussian.from_moments(self.quant_conv(self.encoder(x)))

    def encode(self, x: Tensor, sample: bool = False) -> Tensor:
        """Images (B, 3, H, W) -> latents (B, z, h, w): the mean, or a draw from the posterior."""
        posterior = self.posterior(self.values(x))
        return posterior.sample() if sample else posterior.mode()

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, z, h, w) -> images (B, 3, H, W), not clamped."""
        return self.decode_values(z)

    def decode_values(self, z: Tensor) -> Tensor:
        """Latents (B, z, h, w) -> values (B, C, H, W), not clamped."""
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"z must be (B, {self.config.latent_channels}, h, w), got {tuple(z.shape)}"
            )
        return self.decoder(self.post_quant_conv(z))

    def tokenizer_parameters(self) -> int:
        """Parameters that encode and decode: what papers count (no discriminator, no VF head)."""
        parts = (self.encoder, self.decoder, self.quant_conv, self.post_quant_conv)
        return sum(p.numel() for part in parts for p in part.parameters())

    # --- objective --------------------------------------------------------------------------------

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The autoencoder's `objective` on ``batch["image"]``, (B, 3, H, W) in [-1, 1]."""
        return self.objective(self.values(batch["image"]), batch["image"], step)

    def objective(self, x: Tensor, image: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction + perceptual + KL + VF + (from ``gan_start``) adversarial term.

        Args:
            x: what the network encodes, (B, C, H, W).
            image: the picture that the frozen network of the VF loss sees, (B, 3, H', W').
            step: training step.

        Returns:
            total, scalar; parts without their weights: ``reconstruction`` (per value),
            ``perceptual``, ``kl`` (nats an image), ``vf``, ``gan``.
        """
        config, posterior = self.config, self.posterior(x)
        z = posterior.sample()
        x_hat = self.decode_values(z)
        error = x - x_hat
        rec = error.abs().mean() if config.reconstruction == "l1" else error.square().mean()
        kl = posterior.kl().mean()
        parts = {"reconstruction": rec, "kl": kl}
        fidelity = rec
        if config.perceptual_weight > 0:
            network = self._perceptual_network.on(x.device)
            seen = self.views(x), self.views(x_hat)
            parts["perceptual"] = perceived(network, *seen).mean()
            fidelity = rec + config.perceptual_weight * parts["perceptual"]
        # Summed KL against summed reconstruction: both over the image's number of values.
        total = fidelity + config.kl_weight * kl / x[0].numel()
        if self.vf is not None:
            parts["vf"] = self.vf(z, feature_map(self._vf_network.on(x.device), image))
            last = self.encoder.conv_out.weight
            weight = self._balance(fidelity, parts["vf"], last, VF_CAP / x[0].numel())
            total = total + config.vf_weight * weight * parts["vf"]
        if self._playing(step):
            with frozen(self.discriminator):
                parts["gan"] = generator_hinge(self.discriminator(x_hat))
            last = self.decoder.conv_out.weight
            weight = self._balance(fidelity, parts["gan"], last, GAN_CAP / x[0].numel())
            total = total + config.gan_weight * weight * parts["gan"]
        return total, {name: part.detach() for name, part in parts.items()}

    def views(self, x: Tensor) -> Tensor:
        """What a perceptual network sees of values: here they are an image (B, 3, H, W)."""
        return x

    def discriminator_loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's `discriminator_objective` on ``batch["image"]``."""
        return self.discriminator_objective(self.values(batch["image"]), step)

    def discriminator_objective(self, x: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's hinge loss on values x (B, C, H, W); 0 before ``gan_start``."""
        if not self._playing(step):
            # A loss of zero that still reaches every parameter, so that any trainer can step.
            nothing = sum(p.sum() for p in self.discriminator.parameters()) * 0.0
            return nothing, {"hinge": nothing.detach()}
        with torch.no_grad():
            x_hat = self.decode_values(self.posterior(x).sample())
        real, fake = self.discriminator(x), self.discriminator(x_hat)
        loss = discriminator_hinge(real, fake)
        parts = {"hinge": loss, "real": real.mean(), "fake": fake.mean()}
        return loss, {name: part.detach() for name, part in parts.items()}

    def players(self) -> list[Player]:
        """The autoencoder, and the discriminator if there is one."""
        own = [p for name, p in self.named_parameters() if not name.startswith("discriminator.")]
        players = [Player("autoencoder", own, self.loss)]
        if self.discriminator is not None:
            against = list(self.discriminator.parameters())
            players.append(Player("discriminator", against, self.discriminator_loss))
        return players

    # --- helpers ----------------------------------------------------------------------------------

    def _playing(self, step: int) -> bool:
        return self.discriminator is not None and step >= self.config.gan_start

    @staticmethod
    def _balance(fidelity: Tensor, other: Tensor, weight: Tensor, largest: float) -> Tensor | float:
        """Ratio of gradient norms at a weight; 1 where there is no gradient (validation, meta)."""
        if not torch.is_grad_enabled() or weight.is_meta:
            return 1.0
        return gradient_ratio(fidelity, other, weight, largest)

    def _check(self, x: Tensor) -> None:
        c, factor, limit = self.config.in_channels, self.config.factor, self.config.input_range
        if x.ndim != 4 or x.shape[1] != c or x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(
                f"x must be (B, {c}, H, W) with H and W multiples of {factor}, got {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise ValueError(f"x must be float in [-{limit:g}, {limit:g}], got {x.dtype}")
        if not x.is_meta and (top := float(x.detach().abs().max())) > limit + 1e-3:
            raise ValueError(
                f"x must lie in [-{limit:g}, {limit:g}], got a value of size {top:.3g}"
            )


_TINY = KLVAEConfig(
    image_size=32,
    latent_channels=8,
    channels=4,
    multipliers=(3, 5, 8),
    num_res_blocks=1,
    groups=4,
    perceptual_weight=0.1,  # the substitute's values are about ten times LPIPS's
    perceptual_network="world",
    kl_weight=1e-4,  # a run of some hundred steps needs a stronger pull than one of 10^5
    gan_start=200,
    discriminator_channels=16,
    discriminator_layers=2,
)
_F16 = {"multipliers": (1, 1, 2, 2, 4), "attention_stages": (4,)}
PRESETS: dict[str, KLVAEConfig] = {
    "tiny": _TINY,
    # The book's own for the procedural world, whose trained weights are `base/kl_vae`.
    "world-32": replace(_TINY, latent_channels=4, channels=8, gan_weight=0.0),
    "kl-f4": KLVAEConfig(latent_channels=3, multipliers=(1, 2, 4), published_params=55_312_063),
    "kl-f8": KLVAEConfig(published_params=83_653_863),
    # Attention at 16x16 in the encoder only, as the released weights have it.
    "kl-f16": KLVAEConfig(latent_channels=16, **_F16, published_params=66_456_019),
    # Stable Diffusion 3 and FLUX: 16 channels, no 1x1 convolutions.
    "kl-f8-d16": KLVAEConfig(latent_channels=16, quant_conv=False, published_params=83_819_683),
    "va-vae-f16d32": KLVAEConfig(
        latent_channels=32,
        **_F16,
        decoder_attention_stages=(4,),
        gan_start=5_001,
        vf_weight=0.1,
        published_params=69_836_067,
    ),
}


def build(config: KLVAEConfig) -> KLVAE:
    """The model of a configuration, untrained."""
    return KLVAE(config)


def example(config: KLVAEConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    size = config.image_size
    return {
        "image": torch.zeros(batch_size, 3, size, size, device=device),
        "label": torch.zeros(batch_size, dtype=torch.int64, device=device),
    }
