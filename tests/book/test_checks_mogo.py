"""The exercises of the Mogo chapter: right answers in every form, wrong ones told apart."""

import math

import numpy as np
import torch
from exercise_answers import *  # noqa: F403

from gentok.book.checks import mogo
from gentok.signals.mogo.relative_attention import relative_shift

CHECKS = mogo


def sums(table, codes):
    """Prefix sums by loops."""
    out = torch.zeros(*codes.shape, table.shape[1])
    for q in range(codes.shape[2]):
        for level in range(q + 1):
            out[:, :, q] += table[codes[:, :, level]]
    return out


def shifted(scores):
    out = torch.zeros_like(scores)
    for a in range(len(scores)):
        for b in range(a + 1):
            out[a, b] = scores[a, len(scores) - 1 - (a - b)]
    return out


def reach(kernels, dilations):
    return sum(d * (k // 2) for k, d in zip(kernels, dilations, strict=True))


RIGHT = {
    "bitrate": [
        lambda f, q, k: f * q * math.log2(k),
        lambda f, q, k: f * math.log2(k**q),
        lambda f, q, k: torch.tensor(float(k)).log2() * f * q,
        lambda f, q, k: np.float32(f * q * np.log(k) / np.log(2)),
        lambda f, q, k: [f * q * math.log2(k)],
    ],
    "inputs": [
        sums,
        lambda t, c: t[c].cumsum(2),
        lambda t, c: sums(t, c).numpy(),
        lambda t, c: sums(t, c).tolist(),
        lambda t, c: torch.stack([t[c[..., : q + 1]].sum(2) for q in range(c.shape[2])], 2),
        lambda t, c: torch.einsum("btqd,iq->btid", t[c], torch.ones(2 * c.shape[2:]).tril()),
    ],
    "by_key": [
        shifted,
        lambda s: shifted(s).tolist(),
        lambda s: relative_shift(s).tril(),
        lambda s: torch.stack([torch.roll(row, a + 1) for a, row in enumerate(s)]).tril(),
    ],
    "delay": [
        lambda k, d, f: reach(k, d) / f,
        lambda k, d, f: torch.tensor(float(reach(k, d))) / f,
        lambda k, d, f: (np.array(d) * (np.array(k) - 1) / 2).sum() / f,
    ],
}

WRONG = {
    "bitrate": [
        (lambda f, q, k: q * math.log2(k), "fps of them a second"),
        (lambda f, q, k: f * math.log2(k), "single level"),
        (lambda f, q, k: f * q * k, "log2 K bits"),
        (lambda f, q, k: f * q * math.log(k), "nats"),
        (lambda f, q, k: f * math.log2(q * k), "K^Q"),
        (lambda f, q, k: f * q * math.log2(k) / 8, "bytes"),
        (lambda f, q, k: f * q * (k - 1).bit_length(), "round up"),
        (lambda f, q, k: f + q + k, "fps times levels"),
        (lambda f, q, k: [f, q, k], "one number"),
        (lambda f, q, k: float("nan"), "NaN"),
    ],
    "inputs": [
        (lambda t, c: t[c], "single embeddings"),
        (lambda t, c: sums(t, c) - t[c], "includes level i itself"),
        (lambda t, c: t[c].cumsum(1), "over time"),
        (lambda t, c: t[c].flip(2).cumsum(2).flip(2), "fine end"),
        (lambda t, c: t[c].sum(2, keepdim=True).expand(*c.shape, 5), "all levels"),
        (lambda t, c: t[c.cumsum(2) % 9], "look up first"),
        (lambda t, c: t[c].sum(2), "shape"),
        (lambda t, c: sums(t, c).transpose(1, 2), "swapped"),
        (lambda t, c: torch.cat([sums(t, c)[:1], 0 * sums(t, c)[1:]]), "rows only [0]"),
        (lambda t, c: sums(t, c) + 1, "look up"),
    ],
    "by_key": [
        (relative_shift, "b > a must be 0"),
        (lambda s: s.tril(), "rows must move"),
        (lambda s: s, "rows must move"),
        (lambda s: shifted(s.flip(1)), "column N - 1 is distance 0"),
        (lambda s: shifted(s).T, "queries are rows"),
        (lambda s: s.flip(1).tril(), "reversed"),
        (lambda s: shifted(s)[:, 1:], "shape"),
        (lambda s: 2 * shifted(s) + 1, "row a takes column"),
    ],
    "delay": [
        (lambda k, d, f: 2 * reach(k, d) / f, "both sides"),
        (lambda k, d, f: reach(k, [1] * len(k)) / f, "dilation"),
        (lambda k, d, f: reach(k, d), "divide by fps"),
        (lambda k, d, f: (2 * reach(k, d) + 1) / f, "field of view"),
        (lambda k, d, f: sum(a * b for a, b in zip(k, d, strict=True)) / f, "not k"),
        (lambda k, d, f: max(b * (a // 2) for a, b in zip(k, d, strict=True)) / f, "add up"),
        (lambda k, d, f: (reach(k, d) + 1) / f, "after the frame"),
        (lambda k, d, f: -1, "divide by fps"),
        (lambda k, d, f: "words", "not a str"),
    ],
}
