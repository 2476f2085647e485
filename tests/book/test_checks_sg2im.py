"""The checks of the chapter on scene graphs tell right answers, in every form, from wrong ones."""

import math

import numpy as np
import torch
from exercise_answers import *  # noqa: F403

from gentok.book.checks import sg2im

CHECKS = sg2im


def shares(k, q, e):
    weight = ((k * q * e).sum(-1) / len(q) ** 0.5).clamp(-5, 5).exp()
    return weight / weight.sum()


def token(x, y, k):
    n = int((k - 1) ** 0.5)
    return round((n - 1) * y) * n + round((n - 1) * x)


def iou(a, b):
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    areas = [(x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b)]
    return common / (sum(areas) - common)


def one(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return width * height / (sum(areas) - width * height)


RIGHT = {
    "edge_weights": [
        shares,
        lambda k, q, e: shares(k, q, e).numpy(),
        lambda k, q, e: shares(k, q, e).tolist(),
        lambda k, q, e: (
            (torch.einsum("ld,d,ld->l", k, q, e) / math.sqrt(len(q))).clamp(-5, 5).softmax(0)
        ),
    ],
    "corner_token": [
        token,
        lambda x, y, k: float(token(x, y, k)),
        lambda x, y, k: torch.tensor([token(x, y, k)]),
        lambda x, y, k: np.int64(token(x, y, k)),
    ],
    "box_overlap": [
        iou,
        lambda a, b: iou(a, b).numpy(),
        lambda a, b: [one(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)],
    ],
}

WRONG = {
    "edge_weights": [
        (lambda k, q, e: ((k * q * e).sum(1) / len(q) ** 0.5).softmax(0), "clipped"),
        (lambda k, q, e: (k * q * e).sum(1).clamp(-5, 5).softmax(0), "root of d"),
        (lambda k, q, e: ((k @ q) / len(q) ** 0.5).clamp(-5, 5).softmax(0), "own vector"),
        (
            lambda k, q, e: ((k * q + e).sum(1) / len(q) ** 0.5).clamp(-5, 5).softmax(0),
            "not added",
        ),
        (
            lambda k, q, e: (k * q * e / len(q) ** 0.5).clamp(-5, 5).sum(1).softmax(0),
            "not each channel",
        ),
        (lambda k, q, e: ((k * q * e).sum(1) / len(q) ** 0.5).clamp(-5, 5).exp(), "add up to 1"),
        (lambda k, q, e: shares(k, q, e).sum(), "shape"),
        (lambda k, q, e: "1", "not a str"),
    ],
    "corner_token": [
        (lambda x, y, k: token(y, x, k), "rows first"),
        (
            lambda x, y, k: (
                round(math.isqrt(k - 1) * y) * math.isqrt(k - 1) + round(math.isqrt(k - 1) * x)
            ),
            "n - 1, not by n",
        ),
        (
            lambda x, y, k: (
                int((math.isqrt(k - 1) - 1) * y) * math.isqrt(k - 1)
                + int((math.isqrt(k - 1) - 1) * x)
            ),
            "nearest",
        ),
        (
            lambda x, y, k: (
                round((math.isqrt(k) - 1) * y) * math.isqrt(k) + round((math.isqrt(k) - 1) * x)
            ),
            "padding",
        ),
        (
            lambda x, y, k: (
                round((math.isqrt(k - 1) - 1) * y) * (math.isqrt(k - 1) - 1)
                + round((math.isqrt(k - 1) - 1) * x)
            ),
            "not n - 1",
        ),
        (lambda x, y, k: [1, 2], "one number"),
    ],
    "box_overlap": [
        (
            lambda a, b: _raw(a, b) / (_area(a) + _area(b) - _raw(a, b)),
            "negative sides",
        ),
        (lambda a, b: _common(a, b) / (_area(a) + _area(b)), "subtract"),
        (lambda a, b: _common(a, b), "divide by the union"),
        (lambda a, b: 1 - iou(a, b), "the loss"),
        (lambda a, b: _common(a, b) / torch.maximum(_area(a), _area(b)), "larger box"),
        (lambda a, b: iou(a, b)[:1], "shape"),
    ],
}


def _raw(a, b):
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    return (high - low).prod(1)


def _common(a, b):
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    return (high - low).clamp(min=0).prod(1)


def _area(box):
    return (box[:, 2:] - box[:, :2]).prod(1)
