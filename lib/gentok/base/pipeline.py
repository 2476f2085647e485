"""A tokenizer and a generator of its latents or codes, as one thing that samples."""

from typing import Any

import torch
from torch import Tensor, nn


class Pipeline(nn.Module):
    """What a reader of trained weights gets: data in, latents out, and the way back.

    Args:
        tokenizer: has ``encode(x)`` and ``decode(z)``.
        generator: has ``sample(n, label, **options)``, which gives what the tokenizer decodes.
        options: of the generator's sampler; an argument of `sample` wins over them.
    """

    def __init__(self, tokenizer: nn.Module, generator: nn.Module, **options: Any):
        super().__init__()
        self.tokenizer = tokenizer
        self.generator = generator
        self.options = options

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The tokenizer's latents or codes of data (B, ...)."""
        return self.tokenizer.encode(x)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Data (B, ...) of latents or codes."""
        return self.tokenizer.decode(z)

    @torch.no_grad()
    def sample(self, n: int, label: Tensor | None = None, **options: Any) -> Tensor:
        """Generate.

        Args:
            n: number of samples.
            label: (n,) int64 classes, or None for random ones.
            options: of the generator's sampler.

        Returns:
            decoded samples, such as images (n, 3, H, W), about [-1, 1].
        """
        return self.decode(self.generator.sample(n, label, **self.options | options))
