"""How a Video-VAE is trained: pixels, a perceptual distance, KL, and late an adversary.

Step-Video (Ma et al. 2025) names these terms and adds the adversary after convergence; weights,
discriminator and balance are not stated. As in latent diffusion, the adversary's gradient at the
decoder's last weight is kept in proportion to that of the other terms. Perceptual network and
discriminator look at single frames.
"""

import torch
from torch import Tensor, nn

from gentok.base.patch_game import PatchGame
from gentok.base.perception import VGG, perceived
from gentok.measure.features import load_classifier
from gentok.measure.features.lpips import load_lpips
from gentok.video.step_video.vae import VideoVAE, VideoVAEConfig


class VideoVAEGame(PatchGame):
    """The Video-VAE against a discriminator of patches of frames."""

    def reconstruct(self, batch: dict) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Frames (B T, 3, H, W) of ``batch["video"]`` (B, T, 3, H, W) in [-1, 1], rebuilt.

        Returns:
            frames, total, and the parts of :meth:`VideoVAE.loss` and ``perceptual``.
        """
        x_hat, total, parts = self.tokenizer.reconstruct(batch["video"])
        seen, made = batch["video"].flatten(0, 1), x_hat.flatten(0, 1)  # (BT, 3, H, W)
        if self.features is not None:
            perceptual = perceived(self.features, seen, made).mean()
            total = total + self.config.perceptual_weight * perceptual
            parts["perceptual"] = perceptual.detach()
        return made, total, parts

    @torch.no_grad()
    def pairs(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Frames and their reconstructions, (B T, 3, H, W) each."""
        video = batch["video"]
        x_hat = self.tokenizer.decode(self.tokenizer.encode(video), blend=False)
        return video.flatten(0, 1), x_hat.flatten(0, 1)

    @property
    def last_weight(self) -> nn.Parameter:
        """Of the decoder's last convolution."""
        return self.tokenizer.decoder.conv_out.conv.weight


def perceptual_features(config: VideoVAEConfig) -> nn.Module | None:
    """The frozen network of the perceptual term; None where it has no weight.

    Raises:
        FileNotFoundError: if it is LPIPS and its published weights are absent.
    """
    if not config.perceptual_weight:
        return None
    name = config.perceptual_network
    return load_lpips() if name == VGG else load_classifier(name)


def game_of(tokenizer: VideoVAE) -> VideoVAEGame:
    """The game that trains a Video-VAE."""
    return VideoVAEGame(tokenizer, perceptual_features(tokenizer.config))
