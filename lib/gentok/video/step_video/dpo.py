"""After pre-training: preferences (Video-DPO) and straighter paths for few steps (Turbo).

Both stages are named in Ma et al. 2025 and have no public code. Video-DPO: pairs of clips made for
one prompt, ranked; the flow-matching form of Diffusion-DPO with one noise and one time for winner
and loser. Turbo: reflow (Liu et al. 2023, rectified flow), the model learns from its own pairs of
noise and sample, with training times that crowd at both ends.

Shapes: B pairs, T C h w latents, as in `gentok.video.step_video.model`.
"""

import copy
import math

import torch
from torch import Tensor, nn

from gentok.process.flow import flow_loss, interpolate, logit_normal_times, velocity
from gentok.process.preference import flow_preference_loss
from gentok.video.step_video.model import StepVideo
from gentok.video.step_video.text_encoders import Text


class VideoDPO(nn.Module):
    """A model in preference training beside its frozen self; ``dpo.policy`` is what one keeps.

    Args:
        model: the pre-trained transformer; it is trained in place.
        beta: of the preference loss. The published values are not stated; the report says that a
            very large beta made gradients explode and that a smaller one with a higher learning
            rate converged faster.
        shared: winner and loser see one noise and one time (the method). False draws them apart,
            for the comparison.
    """

    def __init__(self, model: StepVideo, beta: float = 50.0, shared: bool = True):
        super().__init__()
        self.config = model.config
        self.beta, self.shared = beta, shared
        self.policy = model
        self.reference = copy.deepcopy(model).requires_grad_(False).eval()

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The preference loss at random times and noise.

        Args:
            batch: ``winner`` and ``loser``, latents (B, T, C, h, w) made for the same prompt, and
                that prompt as ``clip``, ``llm``, ``mask``.
            step: not used.

        Returns:
            the loss, scalar; parts as `gentok.process.preference.preference_loss`.
        """
        winner, loser = (self.policy.normalize(batch[name]) for name in ("winner", "loser"))
        text = batch["clip"], batch["llm"], batch["mask"]
        t, noise = logit_normal_times(len(winner), device=winner.device), torch.randn_like(winner)
        apart = {}
        if not self.shared:
            own_t = logit_normal_times(len(loser), device=loser.device)
            apart = {"loser_t": own_t, "loser_noise": torch.randn_like(loser)}
        return flow_preference_loss(
            lambda x, t: self.policy(x, t, *text),
            lambda x, t: self.reference(x, t, *text),
            winner,
            loser,
            t,
            noise,
            self.beta,
            **apart,
        )


def rank_pairs(first: Tensor, second: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """Winners and losers of pairs.

    Args:
        first, second: samples for the same prompts, (B, ...).
        score: how much better the first is, (B,); the second wins where it is negative.

    Returns:
        winners and losers, each (B, ...).
    """
    better = (score >= 0).view(-1, *[1] * (first.ndim - 1))
    return torch.where(better, first, second), torch.where(better, second, first)


def u_shaped_times(n: int, a: float = 5.0, device=None) -> Tensor:
    """n times in [0, 1], most of them near the two ends.

    The density is proportional to exp(a s) + exp(-a s) with s = 2 t - 1, drawn by inversion (the
    form and a = 5 as far as they are known; that s is centred is our reading: it makes the U).

    Raises:
        ValueError: if ``a`` is not above 0.
    """
    if not a > 0:
        raise ValueError(f"a must be above 0, got {a}")
    u = 2 * torch.rand(n, device=device) - 1
    s = torch.asinh(u * math.sinh(a)) / a  # the integral of cosh is sinh
    return (0.5 * (s + 1)).clamp(0, 1)


class Turbo(nn.Module):
    """Reflow: learn the straight lines between noise and the samples it led to.

    Args:
        model: the transformer, trained in place.
        a: of the training times, see :func:`u_shaped_times`.
    """

    def __init__(self, model: StepVideo, a: float = 5.0):
        super().__init__()
        self.config = model.config
        self.a = a
        self.model = model

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared velocity error on pairs.

        Args:
            batch: ``noise`` and ``sample``, (B, T, C, h, w), the second as ``sample`` gave it, and
                the prompt as ``clip``, ``llm``, ``mask``; see :func:`reflow_pairs`.
            step: not used.
        """
        x, noise = self.model.normalize(batch["sample"]), batch["noise"]
        t = u_shaped_times(len(x), self.a, x.device)
        text = batch["clip"], batch["llm"], batch["mask"]
        total = flow_loss(self.model(interpolate(x, noise, t), t, *text), velocity(x, noise))
        return total, {"velocity": total.detach()}


@torch.no_grad()
def reflow_pairs(
    model: StepVideo, text: Text, negative: Text | None = None, batch_size: int = 64, **settings
) -> dict[str, Tensor]:
    """Noise and the model's own (guided) samples for prompts: what `Turbo` learns from.

    Args:
        text: n prompts; ``negative``: as in ``sample``; ``settings``: the sampler's.

    Returns:
        ``noise``, ``sample`` (n, T, C, h, w), ``clip``, ``llm``, ``mask``.
    """
    noise = torch.randn(len(text), *model.config.latent_shape, device=model.latent_mean.device)
    samples = []
    for i in range(0, len(text), batch_size):
        part = slice(i, i + batch_size)
        lead = None if negative is None else negative[part]
        samples.append(
            model.sample(len(noise[part]), text[part], lead, noise=noise[part], **settings)
        )
    return {"noise": noise, "sample": torch.cat(samples), **text.batch()}
