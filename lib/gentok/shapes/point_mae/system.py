"""The trained system: the autoencoder, and the two networks that were tuned from its encoder.

Shapes: B batch, P points, G patches, D channels; coordinates (x, y, z).
"""

import torch
from torch import Tensor, nn

from gentok.data.clouds import PARTS_OF
from gentok.shapes.point_mae.model import PointMAE, Reconstruction
from gentok.shapes.point_mae.tasks import PointClassifier, PointSegmenter, own_parts


class PointSystem(nn.Module):
    """What a reader of trained weights gets: features, filled-in shapes, classes, parts.

    Args:
        autoencoder: the pretrained network.
        classifier: tuned on few labelled solids; ``segmenter``: on objects whose parts are known.
    """

    def __init__(
        self, autoencoder: PointMAE, classifier: PointClassifier, segmenter: PointSegmenter
    ):
        super().__init__()
        self.autoencoder = autoencoder
        self.classifier = classifier
        self.segmenter = segmenter

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Tokens of all patches: clouds (B, P, 3) -> (B, G, D)."""
        return self.autoencoder.encode(x)

    @torch.no_grad()
    def reconstruct(self, points: Tensor, mask_ratio: float | None = None) -> Reconstruction:
        """Hide patches of clouds (B, P, 3) and fill them in: `PointMAE.reconstruct`."""
        return self.autoencoder.reconstruct(points, mask_ratio)

    @torch.no_grad()
    def classify(self, points: Tensor) -> Tensor:
        """Classes of solids: (B, P, 3) -> (B,) int64."""
        return self.classifier(points).argmax(-1)

    @torch.no_grad()
    def parts(self, points: Tensor, label: Tensor) -> Tensor:
        """Part of every point of objects of known kinds: (B, P, 3), (B,) -> (B, P) int64."""
        return own_parts(self.segmenter(points, label), label, PARTS_OF)
