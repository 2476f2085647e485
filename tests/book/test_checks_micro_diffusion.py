"""The checks of the chapter on masked diffusion training tell right answers from wrong ones."""

import numpy as np
import torch
import torch.nn.functional as F
from exercise_answers import *  # noqa: F403

from gentok.book.checks import micro_diffusion

CHECKS = micro_diffusion


def saved(whole, thinned, ratio):
    return (whole + thinned) / (whole + (1 - ratio) * thinned)


def experts(scores, k):
    weights = scores.softmax(1)
    least = weights.topk(k, dim=0).values[-1]
    return torch.where(weights >= least, weights, 0)


def by_loops(scores, k):
    scores = scores.numpy()
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    for column in weights.T:
        column[np.argsort(column)[:-k]] = 0
    return weights


def patchwise(error, p):
    rows, channels, h, w = error.shape
    return error.view(rows, channels, h // p, p, w // p, p).mean((1, 3, 5)).flatten(1)


def loss(error, keep, p):
    return patchwise(error, p).gather(1, keep).mean(1)


def masked(error, keep, p):
    patches = patchwise(error, p)
    mask = torch.zeros_like(patches).scatter(1, keep, 1.0)
    return (patches * mask).sum(1) / mask.sum(1)


def skip(sigma, sigma_data):
    return 1 / (1 + (sigma / sigma_data) ** 2)


RIGHT = {
    "saving": [saved, lambda *a: torch.tensor([saved(*a)]), lambda *a: np.float32(saved(*a))],
    "expert_choice": [experts, by_loops, lambda *a: experts(*a).tolist()],
    "kept_loss": [loss, masked, lambda *a: loss(*a).numpy()],
    "c_skip": [skip, lambda s, d: d**2 / (s**2 + d**2), lambda *a: skip(*a).tolist()],
}


def columns(values, ranked, k, axis=0):
    least = ranked.topk(k, axis).values.select(axis, -1).unsqueeze(axis)
    return torch.where(ranked >= least, values, 0)


WRONG = {
    "saving": [
        (lambda w, t, r: 1 / (1 - r), "sees everything"),
        (lambda w, t, r: (w + t) / (w + t * r), "1 - ratio is left"),
        (lambda w, t, r: (w + t * (1 - r)) / (w + t), "inverse"),
        (lambda w, t, r: 2.57, ""),
        (lambda w, t, r: [1.0, 2.0], "one number"),
    ],
    "expert_choice": [
        (lambda s, k: columns(s.softmax(1), s.softmax(1), k, 1), "not of each row"),
        (lambda s, k: columns(s.softmax(0), s.softmax(0), k), "add up to 1, not"),
        (lambda s, k: columns(s.softmax(1), s, k), "softmax comes first"),
        (lambda s, k: columns(s, s.softmax(1), k), "not scores"),
        (lambda s, k: (experts(s, k) > 0).float(), "not 1"),
        (lambda s, k: F.normalize(experts(s, k), p=1, dim=1), "again"),
        (lambda s, k: experts(s, k)[0], "shape"),
    ],
    "kept_loss": [
        (lambda e, keep, p: e.mean((1, 2, 3)), "leave them out"),
        (
            lambda e, keep, p: (
                patchwise(e, p) * torch.zeros_like(patchwise(e, p)).scatter(1, keep, 1)
            ).mean(1),
            "not of all",
        ),
        (lambda *a: loss(*a).mean(), ""),
        (lambda e, keep, p: loss(e.mT.contiguous(), keep, p), "row by row"),
        (lambda e, keep, p: loss(e, keep, p) * e.shape[1], "over the channels"),
        (lambda e, keep, p: loss(e, keep, p) * p**2, "within a patch"),
    ],
    "c_skip": [
        (lambda s, d: s**2 / (s**2 + d**2), "worth nothing"),
        (lambda s, d: (s**2 + d**2) ** -0.5, "c_in"),
        (lambda s, d: s * d / (s**2 + d**2) ** 0.5, "c_out"),
        (lambda s, d: d / (s + d), "square them"),
        (lambda s, d: d / (s**2 + d**2) ** 0.5, "no root"),
    ],
}
