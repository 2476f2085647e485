"""Stage 2 of ViTok: the decoder plays against a discriminator while the encoder stands still.

Paper, 2 and 4.3; weights and schedule as in the public code. Codes do not move, so a generator that
was trained on them still fits. Squared error, KL and LPIPS stay on, with sampled codes; the
adversarial term rises linearly from 0. Unlike in VQGAN its weight follows no gradient.

Shapes: B batch, as in `model`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gentok.latents.vitok.discriminator import StyleDiscriminator
from gentok.latents.vitok.model import ViTok, ViTokConfig, pictures
from gentok.nn.player import Player, frozen
from gentok.process.adversarial import discriminator_hinge, generator_hinge


@dataclass(frozen=True)
class TuningConfig:
    """A tokenizer and its adversary.

    Args:
        tokenizer: the model of stage 1.
        gan_weight: lambda; 0 builds no discriminator: the same stage without an adversary.
        gan_start: step at which the adversarial term begins; ``gan_ramp``: steps that it rises.
        largest: width of the discriminator, see `StyleDiscriminator`. Video is judged by frames.
    """

    tokenizer: ViTokConfig
    gan_weight: float = 1.0
    gan_start: int = 5000
    gan_ramp: int = 50_000
    largest: int = 512

    def weight(self, step: int) -> float:
        """lambda at a step: 0 until the start, then linearly up."""
        risen = (step - self.gan_start) / max(self.gan_ramp, 1)
        return self.gan_weight * min(max(risen, 0.0), 1.0)


class DecoderTuning(nn.Module):
    """A tokenizer whose decoder side learns, and a discriminator."""

    def __init__(self, config: TuningConfig):
        super().__init__()
        self.config = config
        self.tokenizer = ViTok(config.tokenizer)
        for part in self.tokenizer.encoder_parts():
            part.requires_grad_(False)
        self.discriminator = None
        if config.gan_weight > 0:
            self.discriminator = StyleDiscriminator(config.tokenizer.image_size, config.largest)
        self._made: list[Tensor] = []  # this step's reconstructions, for the discriminator

    def begin(self, tokenizer: ViTok) -> "DecoderTuning":
        """Take the weights of stage 1; returns the model itself."""
        self.tokenizer.load_state_dict(tokenizer.state_dict())
        return self

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The decoder's: that of stage 1 - lambda(step) D(x_hat).

        Returns:
            total, scalar; parts without their weights, those of stage 1 and ``gan``.
        """
        total, parts, x_hat = self.tokenizer.objective(self._data(batch))
        if self.discriminator is not None:
            if torch.is_grad_enabled():
                self._made.append(x_hat.detach())
            with frozen(self.discriminator):
                parts["gan"] = generator_hinge(self.discriminator(pictures(x_hat)))
            total = total + self.config.weight(step) * parts["gan"]
        return total, {name: part.detach() for name, part in parts.items()}

    def discriminator_loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The hinge, from the first step on, against what the decoder made in the same step."""
        x = self._data(batch)
        if self._made and torch.is_grad_enabled():
            x_hat = self._made.pop(0)
        else:  # asked alone
            with torch.no_grad():
                x_hat = self.tokenizer.objective(x)[2]
        real = self.discriminator(pictures(x))
        fake = self.discriminator(pictures(x_hat))
        loss = discriminator_hinge(real, fake)
        parts = {"hinge": loss, "real": real.mean(), "fake": fake.mean()}
        return loss, {name: part.detach() for name, part in parts.items()}

    def players(self) -> list[Player]:
        """The decoder side, then the discriminator."""
        parts = self.tokenizer.decoder_parts()
        players = [Player("decoder", [p for part in parts for p in part.parameters()], self.loss)]
        if self.discriminator is not None:
            against = list(self.discriminator.parameters())
            players.append(Player("discriminator", against, self.discriminator_loss))
        return players

    def _data(self, batch: dict) -> Tensor:
        return batch[self.tokenizer.latent_space.batch_key]


def build_tuning(config: TuningConfig) -> DecoderTuning:
    """The model of a configuration, untrained."""
    return DecoderTuning(config)
