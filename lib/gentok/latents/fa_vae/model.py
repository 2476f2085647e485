"""FA-VAE: a tokenizer with one variational autoencoder for low and one for high frequencies.

Medi et al. 2025 (arXiv:2509.05441). A one-level Haar transform splits the image; each side has its
own encoder, decoder, latent, discriminator and objective; they meet again only in the inverse
transform. Widths, latent split and loss weights are not stated in what is public of the paper: this
file takes those of VA-VAE (Yao et al. 2025), the system that the paper builds on. Also chosen here:
the low band is halved, the high ones are multiplied by 4, each discriminator sees its own bands.

Shapes: B batch, H W pixels; x_L (B, 3, H/2, W/2), x_H (B, 9, H/2, W/2); z_L and z_H on one
grid h w.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gentok.base.kl_vae import KLVAE, KLVAEConfig
from gentok.base.kl_vae import PRESETS as KL_PRESETS
from gentok.nn.latents import LatentSpace
from gentok.nn.player import Player
from gentok.nn.wavelet import haar2d, inverse_haar2d

# The low band of an image in [-1, 1] lies in [-2, 2]; halved, it is an image in [-1, 1] again.
LOW_SCALE = 2.0
# High coefficients are small (a tenth of a pixel's size on average); four times larger, they reach
# the networks at the scale that initialisation is made for. They then lie in [-8, 8].
HIGH_SCALE = 4.0


@dataclass(frozen=True)
class FAVAEConfig:
    """Two branches.

    Args:
        low: the branch of LL / 2: 3 channels; MSE, KL, adversarial, perceptual and VF terms.
        high: the branch of 4 LH, 4 HL, 4 HH: 9 channels; L1, KL and adversarial terms.
        published_params: where a source states a count (none does for FA-VAE).
    """

    low: KLVAEConfig
    high: KLVAEConfig
    published_params: int | None = None

    def __post_init__(self):
        low, high = self.low, self.high
        if (low.in_channels, high.in_channels) != (3, 9):
            raise ValueError(
                f"low and high must have 3 and 9 input channels, got {low.in_channels} and "
                f"{high.in_channels}"
            )
        if low.latent_shape[1:] != high.latent_shape[1:]:
            raise ValueError(
                f"low and high must share one latent grid, got {low.latent_shape[1:]} and "
                f"{high.latent_shape[1:]}"
            )

    @property
    def image_size(self) -> int:
        """Height and width of the images, pixels."""
        return 2 * self.low.image_size

    @property
    def latent_channels(self) -> int:
        """c_L + c_H."""
        return self.low.latent_channels + self.high.latent_channels

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c_L + c_H, h, w): what the generator sees."""
        return (self.latent_channels, *self.low.latent_shape[1:])


class LowBranch(KLVAE):
    """The complete VAE of LL / 2 (paper, L_low): L2 + KL + VF + adversarial + perceptual.

    All but the VF loss look at the low band only; that one compares z_L with features of the image.
    """

    def values(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> LL / 2, (B, 3, H/2, W/2) in [-1, 1]."""
        return split(image)[0]


class HighBranch(KLVAE):
    """The complete VAE of the three high bands (paper, L_high): L1 + KL + adversarial."""

    def values(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> 4 [LH, HL, HH], (B, 9, H/2, W/2) in [-8, 8]."""
        return split(image)[1]

    def views(self, x: Tensor) -> Tensor:
        """Each band as a picture of its own: (B, 9, h, w) -> (3B, 3, h, w).

        The published high branch has no perceptual term; this serves the ablation that adds one.
        """
        return x.unflatten(1, (3, 3)).flatten(0, 1)


class FAVAE(nn.Module):
    """Two VAEs side by side: no shared weight, no cross-connection, no gradient between them."""

    def __init__(self, config: FAVAEConfig):
        super().__init__()
        self.config = config
        self.low = LowBranch(config.low)
        self.high = HighBranch(config.high)

    @property
    def latent_space(self) -> LatentSpace:
        """(c_L + c_H, h, w) floats an image."""
        return LatentSpace("continuous", self.config.latent_shape, "image")

    def encode(self, x: Tensor, sample: bool = False) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> [z_L; z_H], (B, c_L + c_H, h, w).

        Args:
            x: images.
            sample: draw from the posteriors instead of taking their means.

        Raises:
            ValueError: if shape, dtype or range of ``x`` is not as stated.
        """
        branches = (self.low, self.high)
        return torch.cat([branch.encode(x, sample) for branch in branches], dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """[z_L; z_H], (B, c_L + c_H, h, w) -> images (B, 3, H, W), not clamped."""
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"z must be (B, {self.config.latent_channels}, h, w), got {tuple(z.shape)}"
            )
        z_low, z_high = z.split(
            [self.config.low.latent_channels, self.config.high.latent_channels], dim=1
        )
        return merge(self.low.decode(z_low), self.high.decode(z_high))

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Both branches' losses added: for evaluation. Training uses `players`, one by one.

        Args:
            batch: ``image`` (B, 3, H, W) in [-1, 1].
            step: training step; the adversarial terms begin at each branch's ``gan_start``.

        Returns:
            total, scalar; parts named ``low/...`` and ``high/...``.
        """
        total, parts = torch.zeros(()), {}
        for name, branch in (("low", self.low), ("high", self.high)):
            loss, named = branch.loss(batch, step)
            total = total.to(loss) + loss
            parts |= {f"{name}/{part}": value for part, value in named.items()}
        return total, parts

    def players(self) -> list[Player]:
        """Up to four: each branch and its discriminator.

        A player each, not one for both: a common gradient clipping would couple the branches.
        """
        return [
            Player(f"{name}/{player.name}", player.parameters, player.loss)
            for name, branch in (("low", self.low), ("high", self.high))
            for player in branch.players()
        ]

    def tokenizer_parameters(self) -> int:
        """Parameters of both encoders and decoders."""
        return self.low.tokenizer_parameters() + self.high.tokenizer_parameters()


class CoupledWaveletVAE(KLVAE):
    """The baseline that tells wavelets from decoupling: one VAE on all 12 wavelet channels.

    One network, one latent, one L1, one discriminator over the wavelet channels at the scale that
    FA-VAE gives them; the perceptual term sees the image that they make.
    """

    def values(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> [LL / 2, 4 LH, 4 HL, 4 HH], (B, 12, H/2, W/2)."""
        return torch.cat(split(image), dim=1)

    def views(self, x: Tensor) -> Tensor:
        """Bands (B, 12, h, w) -> the image they make, (B, 3, 2h, 2w)."""
        return merge(x[:, :3], x[:, 3:])

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, z, h, w) -> images (B, 3, H, W), not clamped."""
        return self.views(self.decode_values(z))


def split(image: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) in [-1, 1] -> LL / 2 (B, 3, H/2, W/2), 4 [LH, HL, HH] (B, 9, H/2, W/2)."""
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"image must be float in [-1, 1], got {image.dtype}")
    low, high = haar2d(image)
    return low / LOW_SCALE, high * HIGH_SCALE


def merge(low: Tensor, high: Tensor) -> Tensor:
    """The inverse of `split`."""
    return inverse_haar2d(low * LOW_SCALE, high / HIGH_SCALE)


# --- presets --------------------------------------------------------------------------------------

_LOW = {"reconstruction": "l2"}
_HIGH = {
    "in_channels": 9,
    "input_range": 8.0,
    "reconstruction": "l1",
    "perceptual_weight": 0.0,
    "vf_weight": 0.0,
}


def pair(branch: KLVAEConfig) -> FAVAEConfig:
    """Both branches from one template: the low one as it stands but for L2, the high one bare.

    Args:
        branch: sizes of a branch (its ``image_size`` is the sub-band's), and the low one's losses.
    """
    branch = replace(branch, published_params=None)
    return FAVAEConfig(replace(branch, **_LOW), replace(branch, **_HIGH))


# A branch needs one stage fewer than VA-VAE: the sub-band is half as large. 16 + 16 channels hold
# as many floats as VA-VAE's 32. Attention stands at 16x16, as there.
_VA_VAE = KL_PRESETS["va-vae-f16d32"]
_OPTION_A = replace(
    _VA_VAE,
    image_size=128,
    latent_channels=16,
    multipliers=(1, 1, 2, 4),
    attention_stages=(3,),
    decoder_attention_stages=(3,),
)
_OPTION_B = replace(_OPTION_A, multipliers=(1, 2, 2, 4))
_TINY = replace(
    KL_PRESETS["tiny"],
    channels=12,
    multipliers=(1, 2),
    image_size=16,
    latent_channels=4,
    vf_weight=0.1,
    vf_network="world",
    vf_channels=96,
)
# For photographs: without the two losses that look through a network. The substitute knows discs
# and squares; it pulls tokenizers of photographs, the rivals most, away from their colours.
_PLAIN = replace(_TINY, perceptual_weight=0.0, vf_weight=0.0)
# No 1x1 convolutions around the latent, as in Stable Diffusion 3: two linear layers in a row with
# those of encoder and decoder slow a run of some thousand steps.
_LARGER = replace(_PLAIN, image_size=32, channels=24, latent_channels=8, quant_conv=False)
PRESETS: dict[str, FAVAEConfig] = {
    "tiny": pair(_TINY),
    # The book's own for shapes on plain floors, whose trained weights are `fa_vae`.
    "world-32": pair(replace(_TINY, channels=24)),
    # The chapter's for its experiments, and the book's own for photographs (`fa_vae_photographs`).
    "study-32": pair(_PLAIN),
    "photographs-64": pair(_LARGER),
    "f16d32-a": pair(_OPTION_A),
    "f16d32-b": pair(_OPTION_B),
}


# (channels, multipliers) of the pixel and of the coupled rival of each preset.
_RIVALS = {
    "tiny": ((4, (3, 5, 8)), (4, (6, 8))),
    "study-32": ((4, (3, 5, 8)), (4, (6, 8))),
    "photographs-64": ((8, (3, 5, 8)), (8, (6, 8))),
}


def baselines(preset: str = "tiny") -> dict[str, KLVAEConfig]:
    """The two rivals of a preset: as many latent floats and, within 2 %, parameters.

    Args:
        preset: ``"tiny"``, ``"study-32"`` or ``"photographs-64"``.

    Returns:
        ``"pixel"``: a KL-VAE on images, for `KLVAE`; ``"coupled"``: one VAE on 12 wavelet
        channels, for `CoupledWaveletVAE`. Both have VA-VAE's objective, L1 + KL + adversarial,
        with the perceptual and VF terms that the preset has.
    """
    ours = PRESETS[preset]
    whole = replace(ours.low, reconstruction="l1", latent_channels=ours.latent_channels)
    pixel, coupled = ({"channels": c, "multipliers": m} for c, m in _RIVALS[preset])
    return {
        "pixel": replace(whole, image_size=ours.image_size, **pixel),
        "coupled": replace(whole, in_channels=12, input_range=8.0, **coupled),
    }


def build(config: FAVAEConfig) -> FAVAE:
    """The model of a configuration, untrained."""
    return FAVAE(config)


def example(config: FAVAEConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    size = config.image_size
    return {
        "image": torch.zeros(batch_size, 3, size, size, device=device),
        "label": torch.zeros(batch_size, dtype=torch.int64, device=device),
    }
