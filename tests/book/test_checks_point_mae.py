"""The checks of the Point-MAE chapter tell right answers, in every form, from wrong ones."""

import numpy as np
import torch
from exercise_answers import *  # noqa: F403
from scipy.spatial import cKDTree

from gentok.book.checks import point_mae

CHECKS = point_mae


def farthest(points, chosen):
    return torch.cdist(points, points[chosen]).amin(1).argmax()


def looped_farthest(points, chosen):
    best, index = -1.0, None
    for i, p in enumerate(points):
        gap = min(float((p - points[j]).square().sum()) for j in chosen)
        if gap > best:
            best, index = gap, i
    return index


def distance(a, b):
    gaps = torch.cdist(a, b).square()
    return gaps.amin(1).mean() + gaps.amin(0).mean()


def by_tree(a, b):
    a, b = a.numpy(), b.numpy()
    there, back = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    return (there**2).mean() + (back**2).mean()


def gaps_of(a, b):
    gaps = torch.cdist(a, b)
    return gaps.amin(1), gaps.amin(0)


def cut(tokens, mask):
    return tokens[~mask].view(len(tokens), -1, tokens.shape[-1])


def macs(dim, depth, num_patches, mask_ratio):
    v = num_patches - int(mask_ratio * num_patches)
    return depth * (12 * v * dim**2 + 2 * v * v * dim)


def iou(predicted, truth, parts):
    scores = []
    for part in parts:
        both = ((predicted == part) & (truth == part)).sum()
        either = ((predicted == part) | (truth == part)).sum()
        scores.append(float(both / either) if either else 1.0)
    return sum(scores) / len(scores)


def iou_by_sets(predicted, truth, parts):
    found = []
    for part in parts:
        p = {i for i, value in enumerate(predicted.tolist()) if value == part}
        t = {i for i, value in enumerate(truth.tolist()) if value == part}
        found.append(len(p & t) / len(p | t) if p | t else 1)
    return np.mean(found)


RIGHT = {
    "next_point": [
        farthest,
        looped_farthest,
        lambda p, c: int(farthest(p, c)),
        lambda p, c: np.int64(farthest(p, c)),
        lambda p, c: [int(farthest(p, c))],
        lambda p, c: np.argmax(cKDTree(p[c].numpy()).query(p.numpy())[0]),
        lambda p, c: (p[:, None] - p[c]).square().sum(-1).min(1).values.argmax(),
    ],
    "chamfer": [
        distance,
        by_tree,
        lambda a, b: float(distance(a, b)),
        lambda a, b: distance(b, a)[None],
        lambda a, b: distance(a.double(), b.double()),
    ],
    "visible": [
        cut,
        lambda t, m: torch.stack([row[~hidden] for row, hidden in zip(t, m, strict=True)]),
        lambda t, m: [row[~hidden].tolist() for row, hidden in zip(t, m, strict=True)],
        lambda t, m: cut(t, m).numpy(),
        lambda t, m: t.gather(
            1,
            m.int().argsort(dim=1, stable=True)[:, : int((~m[0]).sum()), None].expand(-1, -1, 4),
        ),
    ],
    "encoder_macs": [
        macs,
        lambda *a: float(macs(*a)),
        lambda *a: torch.tensor(macs(*a)),
        lambda d, n, g, r: n * (g - int(r * g)) * (12 * d**2 + 2 * (g - int(r * g)) * d),
    ],
    "part_iou": [iou, iou_by_sets, lambda *a: torch.tensor(iou(*a)), lambda *a: [iou(*a)]],
}

WRONG = {
    "next_point": [
        (lambda p, c: (p - p[c].mean(0)).norm(dim=1).argmax(), "farthest from the mean"),
        (lambda p, c: torch.cdist(p, p[c]).amax(1).argmax(), "min, not max"),
        (lambda p, c: torch.cdist(p, p[c]).mean(1).argmax(), "not to all of them"),
        (lambda p, c: torch.cdist(p, p[c]).sum(1).argmax(), "not to all of them"),
        (lambda p, c: torch.cdist(p, p[c]).amin(1).argmin(), "a chosen point"),
        (lambda p, c: torch.cdist(p, p[c[-1:]]).amin(1).argmax(), "latest alone"),
        (lambda p, c: torch.cdist(p, p[c[:1]]).amin(1).argmax(), "first alone"),
        (lambda p, c: torch.cdist(p, p[c]).amin(1).amax(), "not its distance"),
        (lambda p, c: p[farthest(p, c)], "not its coordinates"),
        (lambda p, c: [*c, *c, int(farthest(p, c))], "one number"),
        (lambda p, c: -1, "the largest"),
    ],
    "chamfer": [
        (lambda a, b: sum(g.mean() for g in gaps_of(a, b)), "squared"),
        (lambda a, b: sum(g.mean() for g in gaps_of(a, b)) / 2, "L1"),
        (lambda a, b: gaps_of(a, b)[0].square().mean(), "way back"),
        (lambda a, b: gaps_of(a, b)[1].square().mean(), "way there"),
        (lambda a, b: sum(g.square().sum() for g in gaps_of(a, b)), "not a sum"),
        (lambda a, b: distance(a, b) / 2, "not averaged"),
        (lambda a, b: sum(g.square().amax() for g in gaps_of(a, b)), "Hausdorff"),
        (lambda a, b: 2 * torch.cdist(a, b).square().mean(), "NEAREST"),
        (lambda a, b: torch.cat(gaps_of(a, b)).square().mean(), "mean of its own"),
        (lambda a, b: gaps_of(a, b)[0], "one number"),
        (lambda a, b: (a - b).square().mean(), "RuntimeError"),
        (lambda a, b: float("nan"), "NaN"),
    ],
    "visible": [
        (lambda t, m: t[~m], "flattens"),
        (lambda t, m: t[m].view(len(t), -1, 4), "masked ones"),
        (lambda t, m: t.masked_fill(m[..., None], 0), "set to zero"),
        (lambda t, m: t * ~m[..., None], "set to zero"),
        (lambda t, m: t[:, ~m[0]], "each has its own"),
        (lambda t, m: cut(t, m).flip(1), "order"),
        (lambda t, m: cut(t, m).mT, "axes are swapped"),
        (lambda t, m: cut(t, m)[:1].expand(len(t), -1, -1), "rows only [0]"),
        (lambda t, m: t[~m].view(-1, len(t), 4).mT, ""),
    ],
    "encoder_macs": [
        (lambda d, n, g, r: macs(d, n, g, 0.0), "visible patches only"),
        (lambda d, n, g, r: n * (12 * int(r * g) * d**2 + 2 * int(r * g) ** 2 * d), "the others"),
        (
            lambda d, n, g, r: n * (12 * (1 - r) * g * d**2 + 2 * ((1 - r) * g) ** 2 * d),
            "an integer",
        ),
        (lambda d, n, g, r: macs(d, n, g, r) - 8 * n * (g - int(r * g)) * d**2, "MLP is missing"),
        (lambda d, n, g, r: macs(d, n, g, r) - 2 * n * (g - int(r * g)) ** 2 * d, "itself"),
        (lambda d, n, g, r: macs(d, n, g, r) - n * (g - int(r * g)) ** 2 * d, "twice"),
        (lambda *a: 2 * macs(*a), "FLOPs"),
        (lambda d, n, g, r: macs(d, 1, g, r), "one block"),
        (lambda d, n, g, r: macs(n, d, g, r), "12 V D^2"),
        (lambda *a: [macs(*a)] * 2, "one number"),
    ],
    "part_iou": [
        (lambda p, t, parts: (p == t).float().mean(), "share of right points"),
        (lambda p, t, parts: iou(p, t, [s for s in parts if s in t or s in p]), "leave it out"),
        (
            lambda p, t, parts: (
                sum(iou(p, t, [s]) if s in t or s in p else 0 for s in parts) / len(parts)
            ),
            "not 0",
        ),
        (
            lambda p, t, parts: (
                sum(2 * iou(p, t, [s]) / (1 + iou(p, t, [s])) for s in parts) / len(parts)
            ),
            "Dice",
        ),
        (lambda p, t, parts: sum(iou(p, t, [s]) for s in parts), "not their sum"),
        (lambda p, t, parts: [iou(p, t, [s]) for s in parts], "return their mean"),
        (lambda p, t, parts: float("nan"), "NaN"),
    ],
}
