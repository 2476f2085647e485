"""What few steps cost: a sample against the one that many steps give from the same noise.

Both are of one transformer, or of two: what counts for Turbo is how far its few steps end from the
*pre-trained* transformer's many, and not from its own.

Shapes: B prompts, T C h w latents.
"""

import torch
from torch import Tensor

from gentok.data.imageset import generator
from gentok.process.flow import velocity
from gentok.video.step_video.model import StepVideo
from gentok.video.step_video.text_encoders import Text


def seeded_noise(seed: int, model: StepVideo, n: int) -> Tensor:
    """Noise of a run, (n, T, C, h, w): every seed has its own, and the arms of a seed share it."""
    return torch.randn(n, *model.config.latent_shape, generator=generator(seed, 6))


def end_points(
    model: StepVideo, text: Text, negative: Text | None, noise: Tensor, **sampler: float
) -> Tensor:
    """Samples in the model's units, (B, T, C, h, w); ``sampler`` as for `StepVideo.sample`."""
    return model.normalize(model.sample(len(text), text, negative, noise=noise, **sampler))


def distance(few: Tensor, many: Tensor) -> float:
    """Root of the mean squared difference of two sets of samples."""
    return float((few - many).square().mean().sqrt())


@torch.no_grad()
def bend(
    model: StepVideo,
    text: Text,
    negative: Text | None,
    noise: Tensor,
    guidance_scale: float,
    num_steps: int = 16,
) -> float:
    """How far the paths are from straight: mean squared difference of velocity and chord.

    Each path is followed in equal steps to its end; the chord leads from there to where it began.
    The mean over the steps stands for the integral of |v_t - (x_1 - x_0)|^2 over t.
    """
    field = model.guided(text, negative, guidance_scale)
    x, speeds = noise, []
    for step in range(num_steps):
        speeds.append(field(x, torch.full((len(x),), step / num_steps, device=x.device)))
        x = x + speeds[-1] / num_steps
    chord = velocity(x, noise)
    return sum(float((v - chord).square().mean()) for v in speeds) / num_steps
