"""What frozen features know: one linear classifier a layer, the best layer picked on validation.

MERT's evaluation (MARBLE) trains shallow probes on frozen hidden states of single layers or of a
weighted sum; here each layer has a multinomial logistic regression of its own.

Shapes: N items, layers, D channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class LinearProbe:
    """Multinomial logistic regression (L2, C = 1) on standardised features.

    Args:
        x: features, (N, D); ``label``: classes, (N,), int64, at least two.

    Raises:
        ValueError: if shapes do not fit, or there is one class only.
    """

    def __init__(self, x: Tensor, label: Tensor):
        from sklearn.linear_model import LogisticRegression  # slow to import

        if x.ndim != 2 or label.shape != x.shape[:1] or label.is_floating_point():
            raise ValueError(
                f"need features (N, D) and integer labels (N,), got {tuple(x.shape)} and "
                f"{tuple(label.shape)} {label.dtype}"
            )
        if len(label.unique()) < 2:
            raise ValueError("a probe needs at least two classes")
        self.mean, scale = x.mean(0), x.std(0, correction=0)
        self.scale = torch.where(scale > 0, scale, 1.0)
        self.model = LogisticRegression(max_iter=200, tol=1e-3)
        self.model.fit(self._standard(x), label.numpy())

    def accuracy(self, x: Tensor, label: Tensor) -> float:
        """Share of items (N, D) that get their label (N,)."""
        return float((self.model.predict(self._standard(x)) == label.numpy()).mean())

    def _standard(self, x: Tensor):
        return ((x - self.mean) / self.scale).double().numpy()


class Probed(NamedTuple):
    """The answers to one question.

    Attributes:
        layers: test accuracy of every layer's probe, in [0, 1].
        best: the layer with the best accuracy on validation items; ``probe`` is its classifier.
        accuracy: test accuracy of that layer.
    """

    layers: list[float]
    best: int
    probe: LinearProbe
    accuracy: float


def probe_layers(
    train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> Probed:
    """Ask every layer the same question.

    Args:
        train, valid, test: features (N, layers, D) and labels (N,), int64, on the CPU.
    """
    probes = [LinearProbe(train[0][:, i], train[1]) for i in range(train[0].shape[1])]
    scores = [
        [probe.accuracy(x[:, i], label) for i, probe in enumerate(probes)]
        for x, label in (valid, test)
    ]
    best = max(range(len(probes)), key=scores[0].__getitem__)
    return Probed(scores[1], best, probes[best], scores[1][best])
