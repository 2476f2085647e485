"""Mixed images with mixed labels, and erased rectangles, as functions of the step.

Mixup: Zhang et al. 2018 (arXiv:1710.09412). CutMix: Yun et al. 2019 (arXiv:1905.04899). Label
smoothing: Szegedy et al. 2016. Random erasing: Zhong et al. 2020. Put together as DeiT's recipe
does: one mixing weight a batch, each image with the one that mirrors it in the batch.

Shapes: B batch, C channels, H W pixels, K classes.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Batches = Callable[[int], dict[str, Tensor]]


def mixed(
    batches: Batches,
    num_classes: int,
    *,
    mixup: float = 0.8,
    cutmix: float = 1.0,
    smoothing: float = 0.1,
    seed: int = 0,
) -> Batches:
    """Batches with mixed images and soft labels; still a pure function of the step.

    Each step tosses a coin between mixup and CutMix and draws a weight from Beta(a, a). An image
    x_i becomes w x_i + (1 - w) x_j, j = B - 1 - i, or gets a rectangle of x_j with an area of
    1 - w; its label becomes w y_i + (1 - w) y_j.

    Args:
        batches: gives ``image`` (B, C, H, W) and ``label`` (B,) int64.
        num_classes: K.
        mixup, cutmix: the two Beta parameters a; 0 turns that one off.
        smoothing: probability spread evenly over all classes, in [0, 1).
        seed: of the coin, the weights and the rectangles.

    Returns:
        ``f(step)`` giving the batch with ``label`` (B, K) float.

    Raises:
        ValueError: if an argument is out of range.
    """
    if min(mixup, cutmix) < 0 or not 0 <= smoothing < 1:
        raise ValueError(
            "mixup and cutmix must be 0 or more and smoothing in [0, 1), "
            f"got {mixup}, {cutmix}, {smoothing}"
        )
    choices = [(kind, a) for kind, a in ((mix, mixup), (cut, cutmix)) if a > 0]

    def batch(step: int) -> dict[str, Tensor]:
        out = dict(batches(step))
        rng = np.random.default_rng([seed, step, 11])
        target = F.one_hot(out["label"], num_classes).float()
        target = target * (1 - smoothing) + smoothing / num_classes  # (B, K)
        if choices:
            kind, a = choices[rng.integers(len(choices))]
            out["image"], weight = kind(out["image"], float(rng.beta(a, a)), rng)
            target = torch.lerp(target.flip(0), target, weight)
        out["label"] = target
        return out

    return batch


def mix(image: Tensor, weight: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Mixup: every image faded into its mirror partner; returns images and the weight."""
    return torch.lerp(image.flip(0), image, weight), weight


def cut(image: Tensor, weight: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """CutMix: a rectangle of the partner, of about the area 1 - weight.

    Its centre is anywhere, so that it may be clipped by the border; the weight that is returned is
    the share of the image that is really left.
    """
    height, width = image.shape[2:]
    share = (1 - weight) ** 0.5
    y, x = rng.integers(height), rng.integers(width)
    half_h, half_w = int(height * share) // 2, int(width * share) // 2
    rows = slice(max(y - half_h, 0), min(y + half_h, height))
    columns = slice(max(x - half_w, 0), min(x + half_w, width))
    out = image.clone()
    out[:, :, rows, columns] = image.flip(0)[:, :, rows, columns]
    taken = (rows.stop - rows.start) * (columns.stop - columns.start)
    return out, 1 - taken / (height * width)


def erased(batches: Batches, probability: float = 0.25, seed: int = 0) -> Batches:
    """Batches in which some images have a rectangle of noise; a pure function of the step.

    Area 2 % to 33 % of the image, aspect ratio 0.3 to 3.3, pixels standard normal and clipped to
    [-1, 1].

    Raises:
        ValueError: if the probability is out of range.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")

    def batch(step: int) -> dict[str, Tensor]:
        out = dict(batches(step))
        rng = np.random.default_rng([seed, step, 12])
        image = out["image"].clone()
        height, width = image.shape[2:]
        for i in np.flatnonzero(rng.random(len(image)) < probability):
            area = height * width * rng.uniform(0.02, 1 / 3)
            aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
            h = min(height, max(1, round((area * aspect) ** 0.5)))
            w = min(width, max(1, round((area / aspect) ** 0.5)))
            y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
            noise = rng.standard_normal((image.shape[1], h, w)).clip(-1, 1)
            image[i, :, y : y + h, x : x + w] = torch.from_numpy(noise).to(image)
        out["image"] = image
        return out

    return batch
