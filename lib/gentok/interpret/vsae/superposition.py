"""A toy where the true features are known: more directions than dimensions, few active at a time.

The picture of a network's activations that sparse autoencoders rest on (Elhage et al. 2022,
"Toy models of superposition"), made into data.

Shapes: B samples, M true directions, D dimensions with D < M.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gentok.data import generator
from gentok.measure import alive_fraction, explained_variance
from gentok.nn.sae import SparseDictionary, unit_rows


class Superposition:
    """x = sum of a few of M random unit directions in D dimensions; mean squared norm 1.

    Direction i is active with probability proportional to 1/i (Zipf), independently of the others,
    and then has a strength from the uniform distribution on [0.5, 1.5].

    Args:
        num_directions: M.
        dim: D.
        mean_active: directions active in a sample on average; probabilities end at 1.
        seed: draws the directions.
    """

    def __init__(
        self, num_directions: int = 256, dim: int = 64, mean_active: float = 4.0, seed: int = 0
    ):
        noise = generator(seed)
        self.directions = unit_rows(torch.randn(num_directions, dim, generator=noise))  # (M, D)
        zipf = 1 / torch.arange(1, num_directions + 1)
        self.rates = (mean_active * zipf / zipf.sum()).clamp(max=1.0)  # (M,)
        self.scale = 1.0
        self.scale = float(self.sample(8192, seed)[0].square().sum(-1).mean().sqrt())

    def sample(self, count: int, seed: int, step: int = 0) -> tuple[Tensor, Tensor]:
        """Draw samples, always the same for one (seed, step).

        Returns:
            x: (B, D).
            strengths: of the true directions, (B, M), 0 where inactive.
        """
        noise = generator(seed, step)
        shape = (count, len(self.rates))
        active = torch.rand(shape, generator=noise) < self.rates
        strengths = active * (torch.rand(shape, generator=noise) + 0.5)
        return strengths @ self.directions / self.scale, strengths

    def batches(self, batch_size: int, seed: int) -> Callable[[int], dict[str, Tensor]]:
        """A stream of fresh samples for `gentok.training.fit`."""
        return lambda step: {"x": self.sample(batch_size, seed, step)[0]}

    @torch.no_grad()
    def measure(self, sae: SparseDictionary, count: int = 8192) -> dict[str, float]:
        """How well an autoencoder explains held-out samples and finds the true directions.

        Returns:
            ``explained_variance``, ``alive`` (share of features selected at least once on
            ``count`` samples), ``recovered`` (share of true directions that some feature that is
            alive matches with a cosine above 0.9), ``recovered_rare`` (the same for the rarer half
            of the true directions).
        """
        sae.eval()
        x, _ = self.sample(count, seed=987_654_321)
        features = sae.encode(x)
        alive = (features != 0).any(0)
        cosines = self.directions @ unit_rows(sae.dictionary[alive]).T  # (M, alive)
        found = (cosines > 0.9).any(1) if alive.any() else torch.zeros(len(self.rates))
        return {
            "explained_variance": explained_variance(x, sae(x)),
            "alive": alive_fraction(features),
            "recovered": float(found.float().mean()),
            "recovered_rare": float(found[len(found) // 2 :].float().mean()),
        }
