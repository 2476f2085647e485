"""The checks of the MERT chapter tell right answers, in every form, from wrong ones."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from exercise_answers import *  # noqa: F403

from gentok.book.checks import mert

CHECKS = mert


def share(s, n):
    return 1 - (1 - s / n) ** n


def window(rate, low, octave, k):
    return math.ceil(rate / (low * 2 ** (k / octave)) / (2 ** (1 / octave) - 1))


def quality(octave):
    return 1 / (2 ** (1 / octave) - 1)


def entropy(codes):
    p = torch.bincount(codes.flatten()) / codes.numel()
    return -(p * p.clamp_min(1e-12).log()).sum()


def nats(codes, size=None):
    return sum(entropy(codes[..., q]) for q in range(codes.shape[-1]))


def nan_nats(codes, size):
    total = 0
    for q in range(codes.shape[-1]):
        p = torch.bincount(codes[..., q].flatten(), minlength=size) / codes[..., q].numel()
        total = total - (p * p.log()).sum()
    return total


def first_clip(x, n):
    return x[:1, :n].expand(len(x), -1, -1)


RIGHT = {
    "hidden_share": [
        share,
        lambda s, n: torch.tensor(share(s, n)),
        lambda s, n: np.float64(share(s, n)),
        lambda s, n: [share(s, n)],
        lambda s, n: 1 - math.exp(n * math.log1p(-s / n)),
        lambda s, n: sum((s / n) * (1 - s / n) ** i for i in range(n)),
    ],
    "window_length": [
        window,
        lambda *a: float(window(*a)),
        lambda *a: torch.tensor(window(*a)),
        lambda r, low, b, k: int(np.ceil(quality(b) * r / (low * 2 ** (k / b)))),
        lambda r, low, b, k: -int(-quality(b) * r / (low * 2.0 ** (k / b)) // 1),
    ],
    "unigram": [
        nats,
        lambda c, k: float(nats(c)),
        lambda c, k: nats(c).numpy(),
        lambda c, k: math.log(2) * float(nats(c)) / math.log(2),
        lambda c, k: sum(
            torch.distributions.Categorical(torch.bincount(level, minlength=k).float()).entropy()
            for level in c.flatten(0, 1).T
        ),
    ],
    "fit_targets": [
        lambda x, n: x[:, :n],
        lambda x, n: x[:, :n].numpy(),
        lambda x, n: x[:, :n].tolist(),
        lambda x, n: x.narrow(1, 0, n).double(),
        lambda x, n: torch.stack([clip[:n] for clip in x]),
    ],
}
WRONG = {
    "hidden_share": [
        (lambda s, n: (1 - s / n) ** n, "visible"),
        (lambda s, n: s, "overlap"),
        (lambda s, n: 1 - (1 - s) ** n, "share / length"),
        (lambda s, n: s / n, "is a start"),
        (lambda s, n: 1 - math.exp(-s), "limit"),
        (lambda s, n: 1 - (1 - s / n) ** (n - 1), "its own"),
        (lambda s, n: 0.58, "stays visible"),
        (lambda s, n: [share(s, n)] * 2, "one number"),
        (lambda s, n: float("nan"), "NaN"),
    ],
    "window_length": [
        (lambda r, low, b, k: int(quality(b) * r / (low * 2 ** (k / b))), "round up"),
        (lambda r, low, b, k: quality(b) * r / (low * 2 ** (k / b)), "round up"),
        (lambda r, low, b, k: math.ceil(r / (low * 2 ** (k / b))), "one period"),
        (lambda r, low, b, k: window(r, low, b, -k), "fewer samples"),
        (lambda r, low, b, k: window(r, low, 12, k * 12 / b), "bins_per_octave"),
        (lambda r, low, b, k: window(r, low, b, k) + 1, "rounded up"),
        (lambda r, low, b, k: 2057, "rounded up"),
    ],
    "unigram": [
        (lambda c, k: nats(c) / math.log(2), "bits"),
        (lambda c, k: nats(c) / c.shape[-1], "do not average"),
        (lambda c, k: entropy(c), "by itself"),
        (lambda c, k: c.shape[-1] * entropy(c), "by itself"),
        (lambda c, k: sum(nats(clip[None]) for clip in c) / len(c), "all clips"),
        (lambda c, k: c.shape[-1] * math.log(k), "knowing nothing"),
        (lambda c, k: nats(c).exp(), "leave out exp"),
        (lambda c, k: -nats(c), "sign"),
        (nan_nats, "NaN"),
        (lambda c, k: [entropy(c[..., q]) for q in range(c.shape[-1])], "one number"),
        (lambda c, k: nats(c) + 1, "summed"),
    ],
    "fit_targets": [
        (lambda x, n: x[:, -n:], "cut at the end"),
        (lambda x, n: F.interpolate(x.mT, n, mode="linear").mT, "stretched"),
        (lambda x, n: F.interpolate(x.mT, n, mode="nearest").mT, "stretched"),
        (lambda x, n: x, "shape"),
        (lambda x, n: x[:n], ""),
        (lambda x, n: x[:, :n].mT, "swapped"),
        (lambda x, n: x[0, :n], "not shape"),
        (first_clip, "rows only [0]"),
        (lambda x, n: x[:, :n] + 1, "nothing else"),
    ],
}
