"""Two CvTs that start alike and train alike: one without position tables, one with them.

The paper's ablation of position embeddings takes the tables away and loses nothing. Whoever asks
that question again has to keep all else equal: weights, batches, and the pictures of the test.

Shapes: B batch, H W pixels, K classes.
"""

import torch
from torch import Tensor, nn

from gentok.backbones.cvt.model import CvT, CvTConfig, build
from gentok.data import scattered_shapes
from gentok.training.shared import share_weights

HELD_OUT = 99_991  # the seed of pictures that no training draws
ROWS = 250  # pictures classified at a time


def start(size: CvTConfig, shared: CvTConfig, seed: int) -> CvT:
    """A network before training, with the weights of another of this seed wherever shapes agree."""
    torch.manual_seed(seed)
    common = build(shared)
    model = build(size)
    share_weights(common, model)
    return model


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
    held_out = scattered_shapes(n, side, HELD_OUT)
    parts = list(zip(held_out.floats().split(ROWS), held_out.labels.split(ROWS), strict=True))
    with torch.no_grad():
        return {
            name: sum(float((net(x).argmax(1) == y).sum()) for x, y in parts) / n
            for name, net in system.named_children()
        }
