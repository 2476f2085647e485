"""Two CvTs that start alike and train alike: one without position tables, one with them.

The paper's ablation of position embeddings takes the tables away and loses nothing. Whoever asks
that question again has to keep all else equal: weights, batches, and the pictures of the test.

Shapes: B batch, H W pixels, K classes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gentok.backbones.cvt.model import CvT
from gentok.data import scattered_shapes
from gentok.data.plain_shapes import EASIEST
from gentok.training.shared import share_weights

HELD_OUT = 99_991  # the seed of pictures that no training draws
ROWS = 250  # pictures classified at a time


def start(build: Callable[[Any], nn.Module], size: Any, shared: Any, seed: int) -> nn.Module:
    """A network before training that begins as another of this seed does, where shapes agree.

    Args:
        build: makes a network of a configuration.
        size: its configuration; ``shared``: that of the other.
        seed: of all weights.
    """
    torch.manual_seed(seed)
    other = build(shared)
    network = build(size)
    share_weights(other, network)
    return network


class Rivals(nn.Module):
    """Two networks that were trained alike: without position tables, and with them.

    Args:
        network: without; it is what a call of this module computes.
        tables: with.
    """

    def __init__(self, network: CvT, tables: CvT):
        super().__init__()
        self.network, self.tables = network, tables

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) of any size -> logits (B, K)."""
        return self.network(image)


def accuracies(system: Rivals, side: int, n: int) -> dict[str, float]:
    """Share of ``n`` held-out shapes that each network names, in pictures of a side."""
    held_out = scattered_shapes(n, side, HELD_OUT, EASIEST)
    parts = list(zip(held_out.floats().split(ROWS), held_out.labels.split(ROWS), strict=True))
    with torch.no_grad():
        return {
            name: sum(float((net(x).argmax(1) == y).sum()) for x, y in parts) / n
            for name, net in system.named_children()
        }
