"""What a few features know: logistic probes, and sparse probing (SAEBench, Karvonen et al. 2025).

Two differences from SAEBench: probes see standardised inputs; and where SAEBench draws sets with
equally many items of each kind, here all items count, weighted so that each kind weighs the same.

Shapes: N items, D width of an input, F features of the dictionary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Probe(NamedTuple):
    """A linear classifier on raw inputs: positive where ``x @ weight + bias > 0``."""

    weight: Tensor  # (D,)
    bias: float

    def accuracy(self, x: Tensor, positive: Tensor, group: Tensor) -> float:
        """Share of right answers in each group of items, averaged over the groups."""
        logits = x.detach().cpu().double() @ self.weight + self.bias
        right = ((logits > 0) == positive).double()  # (N,)
        return float(np.mean([float(right[group == g].mean()) for g in group.unique()]))


def fit_probe(x: Tensor, positive: Tensor, group: Tensor) -> Probe:
    """Logistic regression (L2, C = 1) in which each group of items weighs the same.

    Args:
        x: inputs, (N, D); each axis is standardised for the fit, so their units do not matter.
        positive: what to predict, (N,), bool, both values present.
        group: kind of each item, (N,), int64.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    x = x.detach().cpu().double()
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)  # a constant axis carries nothing
    weights = 1.0 / torch.bincount(group)[group]  # (N,)
    weights = weights * len(x) / weights.sum()
    model = LogisticRegression(max_iter=1000)
    model.fit(((x - mean) / scale).numpy(), positive.numpy(), sample_weight=weights.numpy())
    weight = torch.from_numpy(model.coef_[0]) / scale  # back to the units of x
    return Probe(weight, float(model.intercept_[0]) - float(weight @ mean))


def sparse_probe(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    ks: Sequence[int] = (1, 2, 5),
) -> dict[int, float]:
    """Accuracy of probes that may read only k features.

    For each class, features are ranked by how far their mean inside the class lies from that
    outside (absolute value, training items); a logistic probe on the first k says "in" or "out".
    Two classes make one question, more classes one each.

    Args:
        train, test: features, (N, F) and (N', F).
        train_labels, test_labels: class of each item, (N,) and (N',), int64.
        ks: numbers of features, each 1 to F; F itself probes the full dictionary.

    Returns:
        k -> balanced test accuracy (mean of the accuracies inside and outside the class), averaged
        over classes; 0.5 is chance.

    Raises:
        ValueError: if shapes do not fit, a k is out of range, or a class is missing in a set.
    """
    train_labels, test_labels = check_items(train, train_labels), check_items(test, test_labels)
    if not all(1 <= k <= train.shape[1] for k in ks):
        raise ValueError(f"ks must lie in 1..{train.shape[1]}, got {list(ks)}")
    scores: dict[int, list[float]] = {k: [] for k in ks}
    for label in questions(train_labels, test_labels):
        inside, test_inside = train_labels == label, test_labels == label
        order = mean_difference(train, inside).abs().argsort(descending=True, stable=True)
        for k in ks:
            probe = fit_probe(train[:, order[:k]], inside, inside.long())
            answer = probe.accuracy(test[:, order[:k]], test_inside, test_inside.long())
            scores[k].append(answer)
    return {k: float(np.mean(values)) for k, values in scores.items()}


def check_items(x: Tensor, labels: Tensor) -> Tensor:
    """Refuse items that are not (N, width) with integer labels (N,); returns these on the CPU."""
    if x.ndim != 2 or labels.shape != x.shape[:1] or labels.is_floating_point():
        raise ValueError(
            "expected items (N, width) with integer labels (N,), "
            f"got {tuple(x.shape)} with {tuple(labels.shape)} {labels.dtype}"
        )
    return labels.cpu()


def questions(labels: Tensor, test_labels: Tensor) -> list[int]:
    """Classes to ask for: all of them, or the second alone where there are two."""
    classes = labels.unique().tolist()
    if len(classes) < 2 or classes != test_labels.unique().tolist():
        raise ValueError(
            "both sets must hold the same classes, two or more, "
            f"got {classes} and {test_labels.unique().tolist()}"
        )
    return classes if len(classes) > 2 else classes[1:]


def mean_difference(features: Tensor, inside: Tensor, group: Tensor | None = None) -> Tensor:
    """Mean feature inside minus outside, (F,), float64; each side's groups weigh the same."""
    features = features.detach().cpu()
    group = inside.long() if group is None else group
    sides = []
    for side in (inside, ~inside):
        groups = group[side].unique()
        means = [features[side & (group == g)].double().mean(0) for g in groups]
        sides.append(torch.stack(means).mean(0))
    return sides[0] - sides[1]
