"""A masked autoencoder small enough to train in the chapter (He et al. 2022, arXiv:2111.06377).

RAE takes its encoder ready-made. Where there is no network and no DINOv2, this one stands in: three
quarters of the patches are hidden, a transformer sees the rest, and a light decoder must paint what
is missing. It is `transformers`' own ViT-MAE, so what it saves is a checkpoint in the hub's format,
and RAE reads it with the loader that reads `facebook/vit-mae-base`.

Shapes: B batch, S pixels, p patch, N = (S/p)^2 patches, C channels of a token.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.latents.rae.encoder import EncoderConfig, pixel_statistics


@dataclass(frozen=True)
class SmallMAEConfig:
    """Sizes; encoder and decoder as in the paper, smaller.

    Args:
        image_size, patch_size: S and p, pixels.
        dim, depth, num_heads: of the encoder; ``dim`` is the number C of channels of a token.
        decoder_dim, decoder_depth, decoder_heads: of the decoder, which is thrown away.
        mask_ratio: share of hidden patches; the paper's 0.75.
        published_params: none is published for a network of these sizes.
    """

    image_size: int = 32
    patch_size: int = 4
    dim: int = 64
    depth: int = 4
    num_heads: int = 4
    decoder_dim: int = 32
    decoder_depth: int = 1
    decoder_heads: int = 4
    mask_ratio: float = 0.75
    published_params: int | None = None

    def encoder(self, folder: str | Path) -> EncoderConfig:
        """What RAE needs to read the encoder from the folder that `SmallMAE.save` wrote."""
        return EncoderConfig(
            name=str(folder),
            family="vit_mae",
            image_size=self.image_size,
            patch_size=self.patch_size,
            dim=self.dim,
            depth=self.depth,
            num_heads=self.num_heads,
        )


class SmallMAE(nn.Module):
    """Encoder and decoder with the masked-patch objective."""

    def __init__(self, config: SmallMAEConfig):
        super().__init__()
        from transformers import ViTMAEConfig, ViTMAEForPreTraining  # slow to import

        self.config = config
        self.network = ViTMAEForPreTraining(
            ViTMAEConfig(
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_size=config.dim,
                num_hidden_layers=config.depth,
                num_attention_heads=config.num_heads,
                intermediate_size=4 * config.dim,
                decoder_hidden_size=config.decoder_dim,
                decoder_num_hidden_layers=config.decoder_depth,
                decoder_num_attention_heads=config.decoder_heads,
                decoder_intermediate_size=4 * config.decoder_dim,
                mask_ratio=config.mask_ratio,
                # Each patch's pixels are standardised first: better features (MAE, table 1d).
                norm_pix_loss=True,
            )
        )
        mean, std = pixel_statistics(config.encoder(""))
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the hidden patches, each patch standardised (MAE, section 3).

        Args:
            batch: ``image`` (B, 3, S, S) in [-1, 1].
            step: not used.

        Returns:
            total, scalar (1 is what guessing each patch's mean costs); part ``masked``.
        """
        pixels = ((batch["image"] + 1) / 2 - self.mean) / self.std
        # The masks are drawn here, by torch's generator, so that a seeded step repeats.
        noise = torch.rand(len(pixels), self._patches, device=pixels.device)
        total = self.network(pixel_values=pixels, noise=noise).loss
        return total, {"masked": total.detach()}

    def save(self, folder: str | Path) -> Path:
        """Write the encoder alone as a checkpoint of `transformers`; returns the folder."""
        self.network.vit.save_pretrained(folder)
        return Path(folder)

    @property
    def _patches(self) -> int:
        return (self.config.image_size // self.config.patch_size) ** 2


PRESETS: dict[str, SmallMAEConfig] = {"tiny": SmallMAEConfig()}


def build(config: SmallMAEConfig) -> SmallMAE:
    """The model of a configuration, untrained."""
    return SmallMAE(config)


def example(config: SmallMAEConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes (zeros)."""
    size = config.image_size
    return {"image": torch.zeros(batch_size, 3, size, size, device=device)}
