"""How a Video-VAE is trained: pixels, a perceptual distance, KL, and late an adversary.

Step-Video (Ma et al. 2025) names these terms and adds the adversary after convergence; weights,
discriminator and balance are not stated. As in latent diffusion, the adversary's gradient at the
decoder's last weight is kept in proportion to that of the other terms. Perceptual network and
discriminator look at single frames.
"""

import torch
from torch import Tensor, nn

from gentok.measure.features import perceptual_distance
from gentok.nn.discriminator import PatchDiscriminator
from gentok.nn.player import Player, frozen
from gentok.process.adversarial import adaptive_weight, discriminator_hinge, generator_hinge
from gentok.video.step_video.vae import VideoVAE


class VideoVAEGame(nn.Module):
    """Tokenizer against discriminator; after training, ``game.tokenizer`` is what one keeps.

    Args:
        tokenizer: the Video-VAE to train.
        features: network of the perceptual term, held still; None leaves the term out.
    """

    def __init__(self, tokenizer: VideoVAE, features: nn.Module | None = None):
        super().__init__()
        self.config = config = tokenizer.config
        self.tokenizer = tokenizer
        self.discriminator = PatchDiscriminator(
            3, config.discriminator_channels, config.discriminator_layers
        )
        self.features = None if features is None else features.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "VideoVAEGame":
        """Training mode for the players only."""
        super().train(mode)
        if self.features is not None:
            self.features.eval()
        return self

    def players(self) -> list[Player]:
        """Tokenizer and discriminator, in the order in which they move."""
        return [
            Player("tokenizer", list(self.tokenizer.parameters()), self.loss),
            Player("discriminator", list(self.discriminator.parameters()), self.discriminator_loss),
        ]

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The tokenizer's side.

        Args:
            batch: ``{"video": (B, T, 3, H, W) in [-1, 1]}``.
            step: decides whether the adversary plays yet.

        Returns:
            total, scalar; parts of :meth:`VideoVAE.loss`, and ``perceptual``, ``generator``.
        """
        video, config = batch["video"], self.config
        x_hat, total, parts = self.tokenizer.reconstruct(video)
        seen, made = video.flatten(0, 1), x_hat.flatten(0, 1)  # (BT, 3, H, W)
        if self.features is not None:
            perceptual = perceptual_distance(self.features, seen, made).mean()
            total = total + config.perceptual_weight * perceptual
            parts["perceptual"] = perceptual.detach()
        if step < config.gan_start:
            return total, parts
        with frozen(self.discriminator):
            fooling = generator_hinge(self.discriminator(made))
        weight = 0.0
        if torch.is_grad_enabled() and not made.is_meta:
            last = self.tokenizer.decoder.conv_out.conv.weight
            weight = config.gan_weight * adaptive_weight(total, fooling, last)
        parts["generator"] = fooling.detach()
        return total + weight * fooling, parts

    def discriminator_loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's side: hinge loss on real frames and detached reconstructions."""
        if step < self.config.gan_start:
            # Zero, but it reaches every parameter, so that any trainer can step.
            return sum(p.sum() for p in self.discriminator.parameters()) * 0.0, {}
        video = batch["video"]
        with torch.no_grad():
            x_hat = self.tokenizer.decode(self.tokenizer.encode(video), blend=False)
        real, fake = (self.discriminator(x.flatten(0, 1)) for x in (video, x_hat))
        parts = {"real": real.mean().detach(), "fake": fake.mean().detach()}
        return discriminator_hinge(real, fake), parts
