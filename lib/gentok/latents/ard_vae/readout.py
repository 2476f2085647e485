"""What is measured of a trained autoencoder: its axes, its error, its rate, and its factors.

Shapes: N items, L axes.
"""

import torch
from torch import Tensor

from gentok.data.factors import Factors
from gentok.latents.ard_vae.model import ARDVAE
from gentok.latents.ard_vae.networks import in_chunks, squared_error
from gentok.measure.disentangle import factors_read, mutual_information_gap, random_rotation
from gentok.measure.fixed import fixed_noise
from gentok.nn.latents import evaluating
from gentok.process.ard import kl_to_axes


def elbow(variances: Tensor) -> tuple[int, float]:
    """Where variances, sorted, fall most between neighbours, and by which factor.

    Args:
        variances: (L,), above 0, in any order.

    Returns:
        place: how many stand before the fall, 1 to L - 1.
        ratio: of the last before to the first behind it.
    """
    ordered = variances.sort(descending=True).values
    ratios = ordered[:-1] / ordered[1:]
    place = int(ratios.argmax())
    return place + 1, float(ratios[place])


def in_order(model: ARDVAE) -> Tensor:
    """Indices of all axes, most relevant first, (L,)."""
    return model.relevance.argsort(descending=True, stable=True)


@torch.no_grad()
def evaluate(model: ARDVAE, items: Factors) -> dict[str, float | list[float]]:
    """All numbers of a model on held-out items, with fixed noise; the model's buffers move.

    Returns:
        ``sse``: squared error a picture; ``kl``: nats to the prior that it was trained with;
        ``variances``: measured, falling; ``ratio``: fall behind as many axes as there are factors;
        ``place``, ``steepest``: of the `elbow`; ``count``: relevant axes; ``share``: relevance of
        the first F; ``read``: least R^2 of a factor read from means; ``mig`` of the relevant axes,
        and ``mig_turned``, after a random rotation of them.
    """
    noise, number = fixed_noise((len(items), model.config.latent_dim), seed=1), len(items.names)
    with evaluating(model):
        moments = in_chunks(lambda part: torch.cat(model.moments(part), 1), items.images)
        mean, logvar = moments.chunk(2, dim=1)
        z = mean + (0.5 * logvar).exp() * noise
        sse = squared_error(model.target(items.images), in_chunks(model.decoder, z))
    kl = kl_to_axes(mean, logvar, model.variance).sum(1).mean()
    scores = model.find_relevant(items.images, noise)
    variances = model.measured_variance.sort(descending=True).values
    place, steepest = elbow(variances)
    chosen = in_order(model)[:number]  # as many axes as factors, so that arms compare alike
    known = mean[:, chosen]
    known = (known - known.mean(0)) / known.std(0).clamp_min(1e-6)
    turned = known @ random_rotation(number)
    return {
        "sse": float(sse),
        "kl": float(kl),
        "variances": variances.tolist(),
        "ratio": float(variances[number - 1] / variances[number]),
        "place": float(place),
        "steepest": steepest,
        "count": float(model.relevant.sum()),
        "share": float(scores.sort(descending=True).values[:number].sum() / scores.sum()),
        "read": min(factors_read(known, items.values)),
        "mig": mutual_information_gap(known, items.values),
        "mig_turned": mutual_information_gap(turned, items.values),
    }
