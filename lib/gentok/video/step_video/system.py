"""Sentences in, clips out: tokenizer, text encoders and transformer as one thing that samples."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gentok.video.step_video.model import StepVideo, dress
from gentok.video.step_video.sources import text_encoder
from gentok.video.step_video.vae import VideoVAE

ROWS = 64  # clips decoded at a time


class TextToVideo(nn.Module):
    """What a reader of trained weights gets.

    Args:
        tokenizer: the Video-VAE.
        generator: the transformer, whose configuration says how it is sampled.
        turbo: the transformer after Turbo, or None.
    """

    def __init__(self, tokenizer: VideoVAE, generator: StepVideo, turbo: StepVideo | None = None):
        super().__init__()
        self.tokenizer, self.generator, self.turbo = tokenizer, generator, turbo
        self.encoder = text_encoder(generator.config)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Clips (B, T, 3, H, W) or pictures (B, 3, H, W) -> latents (B, t, z, h, w)."""
        return self.tokenizer.encode(x)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, t, z, h, w) -> clips (B, T, 3, H, W), about [-1, 1]."""
        return torch.cat([self.tokenizer.decode(part) for part in z.split(ROWS)])

    @torch.no_grad()
    def sample(
        self, n: int, prompts: Sequence[str], turbo: bool = False, **settings: Any
    ) -> Tensor:
        """Draw clips.

        Args:
            n: clips.
            prompts: a sentence for each of them.
            turbo: draw with the transformer of few steps.
            settings: of `StepVideo.sample`, such as ``num_steps`` or ``noise``.

        Returns:
            clips, (n, T, 3, H, W).

        Raises:
            ValueError: if there are not ``n`` prompts, or ``turbo`` is asked for and there is none.
        """
        model = self.turbo if turbo else self.generator
        if model is None:
            raise ValueError("turbo: this system has no transformer of few steps")
        positive, negative = (self.encoder(words) for words in dress(model.config, prompts))
        return self.decode(model.sample(n, positive, negative, **settings))
