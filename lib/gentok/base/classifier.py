"""What image classifiers on transformers share: their loss and their start.

Shapes: B batch, C channels, H W pixels, K classes.
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
