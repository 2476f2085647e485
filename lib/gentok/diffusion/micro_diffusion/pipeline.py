"""Sentences in, pictures out: autoencoder, text encoder and MicroDiT as one thing that samples."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gentok.base.kl_vae import KLVAE
from gentok.diffusion.micro_diffusion.model import MicroDiT
from gentok.diffusion.micro_diffusion.sources import text_encoder

ROWS = 64  # pictures decoded at a time


class TextToImage(nn.Module):
    """What a reader of trained weights gets.

    Args:
        tokenizer: the autoencoder.
        generator: MicroDiT; its configuration names the text encoder.
        options: of `MicroDiT.sample`; an argument of `sample` wins over them.
    """

    def __init__(self, tokenizer: KLVAE, generator: MicroDiT, **options: Any):
        super().__init__()
        self.tokenizer, self.generator, self.options = tokenizer, generator, options
        self.encoder = text_encoder(generator.config)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> latents (B, C, h, w)."""
        return self.tokenizer.encode(x)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> pictures (B, 3, H, W), about [-1, 1]."""
        return torch.cat([self.tokenizer.decode(part) for part in z.split(ROWS)])

    @torch.no_grad()
    def sample(self, n: int, captions: Sequence[str], **options: Any) -> Tensor:
        """Draw pictures.

        Args:
            n: pictures.
            captions: a sentence for each of them.
            options: of `MicroDiT.sample`: ``num_steps``, ``guidance_scale``, ``noise``.

        Returns:
            (n, 3, H, W), about [-1, 1].

        Raises:
            ValueError: if there are not ``n`` captions, or the text encoder refuses one.
        """
        states = self.encoder(captions)
        return self.decode(self.generator.sample(n, states, **self.options | options))
