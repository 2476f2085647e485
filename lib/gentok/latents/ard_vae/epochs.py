"""Epochs of ARD-VAE: some pictures for the prior, all others for the steps.

Shapes: N pictures, L axes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gentok.data.imageset import generator, to_float

NOISE = 7  # tells the noise of a look at the prior from other streams of the same seed
LOOK = 10_000  # training pictures at which the last look is taken, at the most


class Epochs:
    """Batches by step, and the pictures that an epoch's prior is read off.

    In every epoch the pictures are shuffled; the first N_alpha of them are X_alpha, the rest makes
    the batches, so that the prior is estimated on data which the steps of its epoch do not see.
    Everything follows from (seed, epoch): a resumed run sees what it would have seen.

    Args:
        images: (N, C, S, S), float in [-1, 1], or uint8, which come out so.
        batch_size: rows of a batch.
        prior_images: N_alpha.
        seed: of the order and of the noise.
        overlap: take X_alpha from the pictures that are trained on, as one must not.

    Raises:
        ValueError: if the two parts of an epoch do not fit into the pictures.
    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        prior_images: int,
        seed: int = 0,
        overlap: bool = False,
    ):
        if prior_images < 1 or batch_size < 1 or prior_images + batch_size > len(images):
            raise ValueError(
                f"{len(images)} images do not hold a batch of {batch_size} beside {prior_images} "
                "for the prior; both must be 1 or more"
            )
        self.images, self.batch_size, self.prior_images = images, batch_size, prior_images
        self.seed, self.overlap = seed, overlap
        self.steps = (len(images) - prior_images) // batch_size  # of an epoch
        self._kept: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, ``image`` (B, C, S, S) in [-1, 1]."""
        epoch, place = divmod(step, self.steps)
        first = self.prior_images + place * self.batch_size
        return {"image": self._floats(self._order(epoch)[first : first + self.batch_size])}

    def prior(self, epoch: int) -> Tensor:
        """X_alpha of an epoch, (N_alpha, C, S, S) in [-1, 1]."""
        order, count = self._order(epoch), self.prior_images
        if self.overlap:
            return self._floats(order[count : count + count])
        return self._floats(order[:count])

    def first(self, count: int) -> Tensor:
        """The first pictures as they came, at the most ``count``, in [-1, 1]."""
        return self._floats(torch.arange(min(count, len(self.images))))

    def refresh(self, model: nn.Module, epoch: int, means: bool = False) -> None:
        """Let the model read its prior off this epoch's pictures."""
        noise = look_noise(model, self.prior_images, self.seed, epoch)
        model.update_prior(self.prior(epoch).to(model.center.device), noise, means)

    def _order(self, epoch: int) -> Tensor:
        if self._kept is None or self._kept[0] != epoch:
            order = torch.randperm(len(self.images), generator=generator(self.seed, epoch))
            self._kept = epoch, order
        return self._kept[1]

    def _floats(self, index: Tensor) -> Tensor:
        images = self.images[index]
        return to_float(images) if images.dtype == torch.uint8 else images


def look_noise(model: nn.Module, count: int, seed: int, epoch: int = 0) -> Tensor:
    """Standard Gaussian noise for a look at encoded pictures, (count, L), on the CPU."""
    return torch.randn(count, model.config.latent_dim, generator=generator(seed, epoch, NOISE))


def each_epoch(
    epochs: Epochs, steps: int, held_out: Tensor | None = None, means: bool = False
) -> Callable[[int, nn.Module], None]:
    """What `gentok.training.fit` calls after every step.

    At the end of an epoch the prior is looked up anew, and the validation loss before that, by the
    variances of the epoch that ends. After the last step the relevant axes are found.

    Args:
        epochs: of the run; ``steps``: its length.
        held_out: validation pictures that steer the learning rate, if any do.
        means: estimate from means, as one must not.
    """

    def on_step(step: int, model: nn.Module) -> None:
        epoch, place = divmod(step + 1, epochs.steps)
        if place == 0 and held_out is not None:
            model.plateau.observe(_validated(model, held_out, epochs.seed))
        if place == 0:
            epochs.refresh(model, epoch, means)
        if step + 1 == steps:
            x = epochs.first(LOOK).to(model.center.device)
            model.find_relevant(x, look_noise(model, len(x), epochs.seed))

    return on_step


def _validated(model: nn.Module, held_out: Tensor, seed: int) -> Tensor:
    """The validation loss, ()."""
    noise = look_noise(model, len(held_out), seed)
    losses = [
        model.steering_loss(x.to(model.center.device), part) * len(x)
        for x, part in zip(held_out.split(500), noise.split(500), strict=True)
    ]
    return torch.stack(losses).sum() / len(held_out)
