"""An instrument: which sub-pixels a model's answer depends on, by gradients, one and all.

A model is autoregressive if no answer depends on a later sub-pixel, and it wastes nothing if every
answer can depend on every earlier one. Both are statements about the architecture, so random
weights show them, exactly: a missing path has a gradient of exactly zero.

Shapes: C channels, H W pixels, D features, K values; S = C H W sub-pixels in the order of drawing.
"""

import copy

import torch
from torch import Tensor

from gentok.tokens.axial.model import AxialTransformer, PixelModel, StackedAxialTransformer


def sensitivity(model: PixelModel, seed: int = 0) -> Tensor:
    """How strongly each answer depends on each sub-pixel.

    Args:
        model: any model of `gentok.tokens.axial.model`, trained or not.
        seed: of the random picture at which the gradients are taken.

    Returns:
        (S, S) float64: entry (a, b) is the norm of the gradient of a random mixture of the logits
        of sub-pixel a, with respect to what the network reads of sub-pixel b. Units differ between
        a plane itself (embeddings) and earlier planes (shades), so compare inside a plane only.
    """
    # In double precision, products of the almost-zero layers at the start stay above underflow.
    model = copy.deepcopy(model).double().eval()
    config = model.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = (config.channels, config.image_size, config.image_size)
        pixels = torch.randint(config.num_values, shape)
        mixture = torch.randn(config.num_values, dtype=torch.float64)
    if isinstance(model, StackedAxialTransformer):
        return _stacked(model, pixels, mixture)
    return torch.cat([_sliced(model, pixels, mixture, c) for c in range(config.channels)])


def prefix(config) -> Tensor:
    """The dependencies a full autoregressive model has: (S, S) bool, True below the diagonal."""
    count = config.channels * config.image_size**2
    return torch.ones(count, count, dtype=torch.bool).tril(-1)


def _sliced(model: AxialTransformer, pixels: Tensor, mixture: Tensor, c: int) -> Tensor:
    """Rows of `sensitivity` for plane c, (H W, S): one copy of the picture for each answer."""
    count = pixels[0].numel()
    copies = pixels.expand(count, *pixels.shape)  # (HW, C, H, W)
    shades = (copies.double() / (model.config.num_values - 1)).requires_grad_()
    h = model.decoder.embedding(copies[:, c]).detach().requires_grad_()  # (HW, H, W, D)
    condition = model.exterior(shades, torch.full((count,), c))
    by_h, by_shades = _gradients(model.decoder.logits(h, condition), mixture, (h, shades))
    out = by_shades.abs()  # (HW, C, H, W)
    out[:, c] += by_h.norm(dim=-1)
    return out.flatten(1)


def _stacked(model: StackedAxialTransformer, pixels: Tensor, mixture: Tensor) -> Tensor:
    tall = pixels.flatten(0, 1).expand(pixels.numel(), -1, -1)  # (S, C H, W)
    h = model.decoder.embedding(tall).detach().requires_grad_()
    (by_h,) = _gradients(model.decoder.logits(h), mixture, (h,))
    return by_h.norm(dim=-1).flatten(1)


def _gradients(logits: Tensor, mixture: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Copy n answers at its n-th place only, so one backward pass serves all places."""
    every = torch.arange(len(logits))
    answers = logits.flatten(1, 2)[every, every] @ mixture
    return torch.autograd.grad(answers.sum(), inputs)
