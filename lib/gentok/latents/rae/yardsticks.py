"""What the study of RAE measures: on fixed pictures, with fixed noise, at fixed times.

Shapes: B items, C channels of a token, g g grid of tokens, z (B, C, g, g).
"""

from collections.abc import Sequence

import torch
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn

from gentok.latents.rae.dit import LEAST_TIME, RAEDiT
from gentok.measure.fixed import fixed_noise, fixed_times, mean_over_times
from gentok.measure.sliced import sliced_wasserstein
from gentok.process.flow import interpolate, shift_times, velocity

ROWS = 256  # items that pass a network at a time
PULL = 0.25  # of the probe's ridge, for each feature


@torch.no_grad()
def encode_all(tokenizer: nn.Module, images: Tensor) -> Tensor:
    """Latents (n, C, g, g) of many images (n, 3, H, W) in [-1, 1]."""
    return torch.cat([tokenizer.encode(part) for part in images.split(ROWS)])


@torch.no_grad()
def decode_all(tokenizer: nn.Module, z: Tensor) -> Tensor:
    """Images (n, 3, H, W), cut to [-1, 1], of many latents."""
    return torch.cat([tokenizer.decode(part) for part in z.split(ROWS)]).clamp(-1, 1)


def pooled(z: Tensor) -> Tensor:
    """Mean and spread of every channel over the positions, (B, 2 C)."""
    return torch.cat([z.mean((2, 3)), z.std((2, 3))], dim=1)


def probe(x: Tensor, labels: Tensor, x_test: Tensor, test_labels: Tensor) -> float:
    """Share of test items that a linear read-out (ridge regression onto the classes) names right.

    Args:
        x, labels: features (n, D) that it is fitted to, and their classes (n,).
        x_test, test_labels: what it is asked.
    """
    mean, spread = x.mean(0), x.std(0) + 1e-6
    reader = RidgeClassifier(alpha=PULL * x.shape[1]).fit((x - mean) / spread, labels)
    return float(reader.score((x_test - mean) / spread, test_labels))


@torch.no_grad()
def noisy_errors(tokenizer: nn.Module, images: Tensor, levels: Sequence[float]) -> list[float]:
    """Mean absolute error of decoded images when their latents carry noise; a number a level.

    Args:
        tokenizer: encodes and decodes.
        images: (n, 3, H, W) in [-1, 1].
        levels: of the noise, in standard deviations of the latents.
    """
    z = encode_all(tokenizer, images)
    noise = fixed_noise(z.shape) * z.std()
    return [
        float((decode_all(tokenizer, z + level * noise) - images).abs().mean()) for level in levels
    ]


@torch.no_grad()
def velocity_error(network: RAEDiT, z: Tensor, labels: Tensor, num_times: int = 8) -> float:
    """Mean squared error of the velocity on latents, at times spread as in training.

    Args:
        network: whose training times are logit-normal and shifted.
        z, labels: latents (n, C, g, g) as the encoder makes them, and their classes (n,).
        num_times: how many times.
    """
    x, alpha = network.normalize(z), network.config.alpha
    times = fixed_times(num_times, lambda q: torch.special.ndtri(q).sigmoid())
    times = shift_times(times.clamp_min(LEAST_TIME), 1 / alpha)

    def error(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        guess = network(interpolate(x, noise, t), t, labels)
        return (guess - velocity(x, noise)).square().mean((1, 2, 3))

    return float(mean_over_times(error, x, fixed_noise(x.shape), times).mean())


def token_distance(network: RAEDiT, z: Tensor, real: Tensor) -> float:
    """Sliced Wasserstein distance of drawn tokens to the encoder's, in their standard deviations.

    Args:
        network: its statistics standardise both.
        z, real: as many drawn latents as real ones, (n, C, g, g).
    """
    clouds = [network.normalize(part).permute(0, 2, 3, 1).flatten(0, 2) for part in (z, real)]
    return sliced_wasserstein(*clouds)


@torch.no_grad()
def round_trip(tokenizer: nn.Module, z: Tensor) -> float:
    """Mean squared difference of latents and those of the pictures that they decode to.

    A latent that the encoder might have made comes back; one that belongs to no picture does not.

    Args:
        tokenizer: encodes and decodes; what its decoder loses is in the number.
        z: (n, C, g, g), of which every number counts the same.
    """
    return float((encode_all(tokenizer, decode_all(tokenizer, z)) - z).square().mean())
