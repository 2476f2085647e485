"""Learning from preferences: direct preference optimisation of a flow (or diffusion) model.

DPO (Rafailov et al. 2023, equation 7) raises the likelihood of a preferred sample against a
rejected one, relative to a frozen reference model. A flow has no likelihood at hand; Diffusion-DPO
(Wallace et al. 2023) puts the negative denoising error in its place, Step-Video the flow-matching
error. Winner and loser see the *same* noise at the *same* time: what the two errors have in common
cancels, and the gradient gets quieter.

Shapes: B pairs; the rest of a sample's axes are arbitrary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.process.flow import interpolate, velocity

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, ...), t (B,)) -> velocity (B, ...)


def flow_error(velocity_fn: Velocity, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Squared velocity error of each sample, the mean over its numbers.

    Args:
        velocity_fn: the model.
        x: data, (B, ...); ``noise`` alike; ``t`` (B,) in [0, 1], 0 being noise.

    Returns:
        (B,).
    """
    predicted = velocity_fn(interpolate(x, noise, t), t)
    return (predicted - velocity(x, noise)).square().flatten(1).mean(1)


def preference_loss(
    winner: Tensor, loser: Tensor, ref_winner: Tensor, ref_loser: Tensor, beta: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """-log sigmoid(beta [(ref_w - w) - (ref_l - l)]) of errors, the mean over pairs.

    Args:
        winner, loser: the trained model's errors, (B,); ``ref_winner``, ``ref_loser`` those of the
            frozen reference.
        beta: how dear it is to leave the reference. The errors' unit matters: with errors of about
            1, differences are thousandths, hence the large values of the literature.

    Returns:
        the loss, scalar, log 2 at the start; and detached parts: ``accuracy`` (share of pairs whose
        margin is positive), ``margin`` (mean of what stands in the brackets), ``gain_winner`` and
        ``gain_loser`` (fall of each error against the reference).

    Raises:
        ValueError: if ``beta`` is not above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta must be above 0, got {beta}")
    gain_winner, gain_loser = ref_winner - winner, ref_loser - loser
    margin = gain_winner - gain_loser  # (B,)
    parts = {
        "accuracy": (margin > 0).float().mean(),
        "margin": margin.mean(),
        "gain_winner": gain_winner.mean(),
        "gain_loser": gain_loser.mean(),
    }
    return -F.logsigmoid(beta * margin).mean(), {k: v.detach() for k, v in parts.items()}


def flow_preference_loss(
    model: Velocity,
    reference: Velocity,
    winner: Tensor,
    loser: Tensor,
    t: Tensor,
    noise: Tensor,
    beta: float,
    loser_t: Tensor | None = None,
    loser_noise: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """DPO of a flow model on pairs of samples.

    Args:
        model: the velocity being trained; ``reference``: the frozen one, run without gradients.
        winner, loser: preferred and rejected samples, (B, ...).
        t: times, (B,) in [0, 1]; ``noise``: as ``winner``.
        beta: see :func:`preference_loss`.
        loser_t, loser_noise: the loser's own, for the comparison with independent draws; as the
            winner's if None, which is the method.

    Returns:
        loss and parts of :func:`preference_loss`.

    Raises:
        ValueError: if winner and loser differ in shape.
    """
    if winner.shape != loser.shape:
        raise ValueError(
            f"winner and loser must have one shape, got {tuple(winner.shape)}, {tuple(loser.shape)}"
        )
    loser_t = t if loser_t is None else loser_t
    loser_noise = noise if loser_noise is None else loser_noise
    w, losing = (winner, noise, t), (loser, loser_noise, loser_t)
    with torch.no_grad():
        ref_winner, ref_loser = flow_error(reference, *w), flow_error(reference, *losing)
    return preference_loss(
        flow_error(model, *w), flow_error(model, *losing), ref_winner, ref_loser, beta
    )
