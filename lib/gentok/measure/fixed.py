"""Fixed grids of times, noise and masks: a test loss without luck of its own.

A loss that draws its times, noise or masks anew differs from call to call. Measured on fixed items
at fixed times with fixed noise, it is a number of the network alone, and two networks that are held
against each other meet the same questions.

Shapes: N items, S tokens, R ratios; the rest of an item's axes are arbitrary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gentok.data.imageset import generator


def fixed_times(n: int, quantile: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """n times in the middle of n equally likely intervals, (n,) rising.

    Their mean of any smooth function is close to its expectation over random times.

    Args:
        n: how many, at least 1.
        quantile: the inverse distribution function of the times; uniform on [0, 1] if None. For
            the sigmoid of a Gaussian it is ``lambda q: torch.special.ndtri(q).sigmoid()``.

    Raises:
        ValueError: if ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    middle = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    times = middle if quantile is None else quantile(middle)
    return times.to(torch.float32)


def fixed_noise(shape: Sequence[int], seed: int = 0) -> Tensor:
    """Standard Gaussian noise that depends on the shape and the seed alone; float32, on the CPU."""
    return torch.randn(*shape, generator=generator(seed))


def fixed_masks(n: int, num_tokens: int, ratios: Sequence[float], seed: int = 0) -> Tensor:
    """Masks for n items at each ratio, (R, N, S) bool, True where a token is hidden.

    In every row exactly round(ratio S) tokens are hidden, and what a small ratio hides the larger
    ones hide too, so that losses at two ratios are comparable item by item.

    Args:
        n: items; ``num_tokens`` tokens an item.
        ratios: shares of hidden tokens, each in [0, 1].
        seed: which masks.

    Raises:
        ValueError: if a ratio lies outside [0, 1].
    """
    if any(not 0 <= ratio <= 1 for ratio in ratios):
        raise ValueError(f"ratios must lie in [0, 1], got {list(ratios)}")
    rank = torch.rand(n, num_tokens, generator=generator(seed)).argsort(-1).argsort(-1)  # (N, S)
    hidden = torch.tensor([round(ratio * num_tokens) for ratio in ratios])
    return rank[None] < hidden[:, None, None]


@torch.no_grad()
def mean_over_times(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], items: Tensor, noise: Tensor, times: Tensor
) -> Tensor:
    """A loss of each item, the mean over fixed times, (N,).

    Args:
        loss: ``loss(items, noise, t)`` with t (N,) gives a value for each item, (N,).
        items: (N, ...), and ``noise`` of the same shape.
        times: (T,), as `fixed_times` gives them.

    Raises:
        ValueError: if items and noise differ in shape.
    """
    if items.shape != noise.shape:
        raise ValueError(
            f"items and noise must have one shape, got {tuple(items.shape)}, {tuple(noise.shape)}"
        )
    return torch.stack([loss(items, noise, t.expand(len(items))) for t in times]).mean(0)
