"""What removing features does to what is known: SCR and TPP.

Definitions: Karvonen et al. 2024 (arXiv:2411.18895), in the form SAEBench gives them. Differences:
one activation an item instead of the mean over a text's tokens, and those of
`gentok.measure.probes`.

Shapes: N items, D activation width, F features of the dictionary.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.measure.probes import check_items, fit_probe, mean_difference, questions

Code = Callable[[Tensor], Tensor]
CHUNK = 1024  # items or features decoded at once


def scr(
    encode: Code,
    decode: Code,
    train: tuple[Tensor, Tensor, Tensor],
    test: tuple[Tensor, Tensor, Tensor],
    ns: Sequence[int] = (2, 5, 10, 20, 50, 100, 500),
) -> dict[int, dict[str, float]]:
    """Spurious correlation removal: can a bias be cut out of the features?

    A biased probe for the target is trained only on items whose target and spurious label agree, so
    it leans on both. A probe for the spurious label, trained on all items, attributes to each
    feature |difference of its means * (probe weight . decoder direction)|. The n features with the
    largest attribution are set to zero, and the biased probe is asked for the target again, on test
    items of all four kinds in equal shares. Score = (changed - original) / (clean - original),
    where ``clean`` is the accuracy of an unbiased probe for the target.

    SAEBench runs this in both directions (swap target and spurious label) and reports the one whose
    ``original`` is lower, where the bias does the greater harm.

    Args:
        encode: activations (N, D) -> features (N, F).
        decode: features (N, F) -> activations (N, D), an affine map.
        train, test: each (activations (N, D), target (N,), spurious (N,)), labels 0 or 1.
        ns: how many features to ablate.

    Returns:
        n -> ``score`` (1: the bias is gone; 0: no change; negative: worse; NaN where the biased
        probe is not worse than the clean one), ``changed``, ``original``, ``clean`` (accuracies).

    Raises:
        ValueError: if shapes do not fit or one of the four kinds of items is missing in a set.
    """
    kinds = [_four_kinds(*train), _four_kinds(*test)]
    x, target, spurious = train[0], kinds[0] >= 2, kinds[0] % 2 == 1
    test_x, test_target = test[0], kinds[1] >= 2
    agree = target == spurious
    biased = fit_probe(x[agree], target[agree], target[agree].long())
    clean = fit_probe(x, target, kinds[0]).accuracy(test_x, test_target, kinds[1])
    original = biased.accuracy(test_x, test_target, kinds[1])
    guide = fit_probe(x, spurious, kinds[0])
    difference = mean_difference(_in_chunks(encode, x), spurious, kinds[0])
    effects = (difference * (_directions(decode, len(difference), x) @ guide.weight)).abs()
    results = {}
    for n in ns:
        ablated = _ablate(encode, decode, test_x, _strongest(effects, n))
        changed = biased.accuracy(ablated, test_target, kinds[1])
        gap = clean - original
        score = (changed - original) / gap if gap > 0 else float("nan")
        results[n] = {"score": score, "changed": changed, "original": original, "clean": clean}
    return results


def tpp(
    encode: Code,
    decode: Code,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    ns: Sequence[int] = (2, 5, 10, 20, 50, 100, 500),
) -> dict[int, dict[str, float]]:
    """Targeted probe perturbation: does removing one class's features leave the others alone?

    Every class has a probe, "this class or not". For class i, the n features with the largest
    max(difference of means, 0) * (probe weight . decoder direction) are set to zero. ``intended``
    is the drop in accuracy of probe i, ``unintended`` the mean drop of the other probes, both
    averaged over i; ``total`` = intended - unintended.

    Args:
        encode: activations (N, D) -> features (N, F).
        decode: features (N, F) -> activations (N, D), an affine map.
        train, test: each (activations (N, D), labels (N,) int64), two classes or more.
        ns: how many features to ablate for a class.

    Returns:
        n -> ``total``, ``intended``, ``unintended``, differences of balanced accuracies.

    Raises:
        ValueError: if shapes do not fit or a class is missing in a set.
    """
    (x, labels), (test_x, test_labels) = train, test
    labels, test_labels = check_items(x, labels), check_items(test_x, test_labels)
    questions(labels, test_labels)
    classes = labels.unique().tolist()
    probes = {c: fit_probe(x, labels == c, (labels == c).long()) for c in classes}

    def accuracies(inputs: Tensor) -> np.ndarray:
        inside = {c: test_labels == c for c in classes}
        return np.array([probes[c].accuracy(inputs, inside[c], inside[c].long()) for c in classes])

    before = accuracies(test_x)  # (classes,)
    features = _in_chunks(encode, x)
    directions = _directions(decode, features.shape[1], x)
    drops = {n: np.empty((len(classes), len(classes))) for n in ns}  # [ablated, probed]
    for row, c in enumerate(classes):
        difference = mean_difference(features, labels == c).clamp_min(0)
        effects = difference * (directions @ probes[c].weight)
        for n in ns:
            ablated = _ablate(encode, decode, test_x, _strongest(effects, n))
            drops[n][row] = before - accuracies(ablated)
    results = {}
    for n, drop in drops.items():
        intended = float(drop.diagonal().mean())
        unintended = float(drop[~np.eye(len(classes), dtype=bool)].mean())
        total = intended - unintended
        results[n] = {"total": total, "intended": intended, "unintended": unintended}
    return results


def _four_kinds(x: Tensor, target: Tensor, spurious: Tensor) -> Tensor:
    """Which of the four combinations of labels each item has, (N,) in 0..3."""
    kind = 2 * check_items(x, target).long() + check_items(x, spurious).long()
    if kind.unique().tolist() != [0, 1, 2, 3]:
        raise ValueError(
            "target and spurious labels must be 0 or 1, with items of all four combinations, "
            f"got 2 * target + spurious in {kind.unique().tolist()}"
        )
    return kind


def _strongest(effects: Tensor, n: int) -> Tensor:
    """Indices of the n largest effects; fewer where fewer are not zero."""
    nonzero = effects.nonzero()[:, 0]
    return nonzero[effects[nonzero].topk(min(n, len(nonzero))).indices]


@torch.no_grad()
def _in_chunks(function: Code, x: Tensor) -> Tensor:
    return torch.cat([function(chunk).cpu() for chunk in x.split(CHUNK)])


@torch.no_grad()
def _directions(decode: Code, num_features: int, like: Tensor) -> Tensor:
    """What one unit of each feature adds to an activation, (F, D), float64."""
    offset = decode(like.new_zeros(1, num_features))
    rows = []
    for index in torch.arange(num_features, device=like.device).split(CHUNK):
        units = F.one_hot(index, num_features).to(like.dtype)  # (chunk, F)
        rows.append((decode(units) - offset).cpu())
    return torch.cat(rows).double()


@torch.no_grad()
def _ablate(encode: Code, decode: Code, x: Tensor, chosen: Tensor) -> Tensor:
    """Activations without some features; what the dictionary misses of them stays, (N, D)."""
    out = []
    for chunk in x.split(CHUNK):
        features = encode(chunk)
        missed = chunk - decode(features)
        kept = features.index_fill(1, chosen.to(features.device), 0.0)
        out.append((decode(kept) + missed).cpu())
    return torch.cat(out)
