"""A tokenizer against a discriminator of patches, as latent diffusion trains its tokenizers.

Esser et al. 2021 (VQGAN, arXiv:2012.09841), 3.1. The discriminator looks at single pictures. Both
sides wait until a step at which reconstructions are good; then the adversary's gradient at the
decoder's last weight is kept in proportion to that of the other terms (equation 7).

Shapes: B batch, H W pixels.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gentok.nn.discriminator import PatchDiscriminator
from gentok.nn.player import Player, frozen
from gentok.process.adversarial import adaptive_weight, discriminator_hinge, generator_hinge

Parts = dict[str, Tensor]


class PatchGame(nn.Module, ABC):
    """What such games share; after training, ``game.tokenizer`` is what one keeps.

    Args:
        tokenizer: to train; its configuration has ``gan_start``, ``gan_weight``,
            ``discriminator_channels`` and ``discriminator_layers``.
        features: feature network of the perceptual term, never trained here; None leaves it out.
    """

    def __init__(self, tokenizer: nn.Module, features: nn.Module | None = None):
        super().__init__()
        self.config = config = tokenizer.config
        self.tokenizer = tokenizer
        self.discriminator = PatchDiscriminator(
            3, config.discriminator_channels, config.discriminator_layers
        )
        self.features = None if features is None else features.eval().requires_grad_(False)

    @abstractmethod
    def reconstruct(self, batch: dict) -> tuple[Tensor, Tensor, Parts]:
        """Reconstructed pictures (n, 3, H, W), the loss without the adversary, and its parts."""

    @abstractmethod
    def pairs(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Pictures (n, 3, H, W) and what becomes of them, without gradient and without training."""

    @property
    @abstractmethod
    def last_weight(self) -> nn.Parameter:
        """Of the decoder's last layer, at which gradients are compared."""

    def train(self, mode: bool = True) -> "PatchGame":
        """Training mode for the players only: the feature network stays as it was trained."""
        super().train(mode)
        if self.features is not None:
            self.features.eval()
        return self

    def players(self) -> list[Player]:
        """Tokenizer and discriminator, in the order in which they move."""
        # Not a codebook that follows its averages: it has no gradient.
        own = [p for p in self.tokenizer.parameters() if p.requires_grad]
        against = list(self.discriminator.parameters())
        return [
            Player("tokenizer", own, self.loss),
            Player("discriminator", against, self.discriminator_loss),
        ]

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, Parts]:
        """The tokenizer's side: reconstruction + adaptive weight * generator hinge (equation 7).

        Args:
            batch: what `reconstruct` takes.
            step: decides whether the adversary plays yet.

        Returns:
            total, scalar; parts of the reconstruction, and ``generator``, ``adaptive_weight``.
        """
        made, total, parts = self.reconstruct(batch)
        if step < self.config.gan_start:
            return total, parts
        with frozen(self.discriminator):
            fooling = generator_hinge(self.discriminator(made))
        weight = 0.0
        if torch.is_grad_enabled() and not made.is_meta:
            weight = self.config.gan_weight * adaptive_weight(total, fooling, self.last_weight)
            parts["adaptive_weight"] = weight
        parts["generator"] = fooling.detach()
        return total + weight * fooling, parts

    def discriminator_loss(self, batch: dict, step: int = 0) -> tuple[Tensor, Parts]:
        """The discriminator's side: hinge loss on real pictures and detached reconstructions."""
        if step < self.config.gan_start:
            # Zero, but it reaches every parameter, so that any trainer can step.
            return sum(p.sum() for p in self.discriminator.parameters()) * 0.0, {}
        real, fake = (self.discriminator(x) for x in self.pairs(batch))
        total = discriminator_hinge(real, fake)
        return total, {"real": real.mean().detach(), "fake": fake.mean().detach()}
