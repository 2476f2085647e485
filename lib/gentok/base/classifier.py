"""What image classifiers on transformers share: their loss, their start, and stochastic depth.

Stochastic depth: Huang et al. 2016, in the form of DeiT (Touvron et al. 2021): a residual branch is
dropped for single images, and the rate rises linearly with depth.

Shapes: B batch, C channels, H W pixels, K classes, N tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Classifier(nn.Module):
    """A network with ``forward(image) -> logits``; gives it its loss."""

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy with hard or soft targets.

        Args:
            batch: ``image`` (B, 3, H, W) in [-1, 1]; ``label`` (B,) int64, or (B, K) float: the
                probabilities that mixing and smoothing leave (rows add up to 1).
            step: unused; part of the common signature.

        Returns:
            the mean cross-entropy in nats, and the detached parts ``cross_entropy`` and
            ``accuracy`` (share of images whose likeliest class is that of the target).

        Raises:
            ValueError: if the label is neither.
        """
        logits = self(batch["image"])
        label = batch["label"]
        hard = label.dtype == torch.int64 and label.shape == logits.shape[:1]
        if not hard and not (label.is_floating_point() and label.shape == logits.shape):
            raise ValueError(
                f"label must be int64 ({len(logits)},) or float {tuple(logits.shape)}, "
                f"got {label.dtype} {tuple(label.shape)}"
            )
        total = F.cross_entropy(logits, label)
        wanted = label if hard else label.argmax(-1)
        right = (logits.argmax(-1) == wanted).float().mean()
        return total, {"cross_entropy": total.detach(), "accuracy": right.detach()}


class DropPath(nn.Module):
    """Drop a residual branch for single images in training; the kept ones are scaled up.

    Args:
        rate: probability of a drop, in [0, 1).

    Raises:
        ValueError: if the rate is out of range.
    """

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate must lie in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same; its expectation is ``x``."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) < keep
        return x * (kept / keep).to(x.dtype)


def drop_rates(rate: float, depth: int) -> list[float]:
    """Rates of ``depth`` blocks: from 0 at the first, linearly, to ``rate`` at the last."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def init_linears(module: nn.Module, std: float) -> None:
    """Truncated normal weights and zero biases for linear layers; others keep PyTorch's."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_image(image: Tensor, channels: int, least: int) -> None:
    """Refuse what is not a batch of images large enough for the network.

    Raises:
        ValueError: if ``image`` is not (B, channels, H, W) with sides of at least ``least``.
    """
    if image.ndim != 4 or image.shape[1] != channels or min(image.shape[2:]) < least:
        raise ValueError(
            f"image must be (B, {channels}, H, W) with sides of at least {least}, "
            f"got {tuple(image.shape)}"
        )
