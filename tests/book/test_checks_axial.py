"""The checks of the Axial Transformer's chapter tell right answers from wrong ones."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from exercise_answers import *  # noqa: F403

from gentok.book.checks import axial

CHECKS = axial


def down(u):
    return torch.cat([torch.zeros_like(u[:, :1]), u[:, :-1]], dim=1)


def rolled(u):
    u = u.roll(1, dims=1)
    u[:, 0] = 0
    return u


def macs(lengths, dim):
    n = math.prod(lengths)
    return sum(2 * n * length * dim for length in lengths)


def prefix(pixels, n):
    kept = torch.full_like(pixels, -1)
    kept.flatten(1)[:, :n] = pixels.flatten(1)[:, :n]
    return kept


def looped(pixels, n):
    out, (_, c, h, w) = -torch.ones_like(pixels), pixels.shape
    for place in range(n):
        k, i, j = place // (h * w), place // w % h, place % w
        assert k < c
        out[:, k, i, j] = pixels[:, k, i, j]
    return out


def in_place(pixels, n):
    pixels.flatten(1)[:, n:] = -1
    return pixels


def pixelwise(pixels, n):
    """All planes of a pixel at once: the order of PixelCNN."""
    last = pixels.movedim(1, -1).contiguous()
    return prefix(last, n).movedim(-1, 1)


def columnwise(pixels, n):
    return prefix(pixels.transpose(2, 3).contiguous(), n).transpose(2, 3)


def first_picture(pixels, n):
    return prefix(pixels, n)[:1].expand_as(pixels)


RIGHT = {
    "shift_down": [
        down,
        rolled,
        lambda u: F.pad(u, (0, 0, 0, 0, 1, 0))[:, :-1],
        lambda u: down(u).numpy(),
        lambda u: down(u.double()).tolist(),
        lambda u: torch.einsum("ik,bkwd->biwd", torch.eye(u.shape[1]).roll(1, 0).tril(-1), u),
    ],
    "axes_macs": [
        macs,
        lambda s, d: 2 * d * np.prod(s) * np.sum(s),
        lambda s, d: float(macs(s, d)),
        lambda s, d: torch.tensor(macs(s, d)),
        lambda s, d: [macs(s, d)],
    ],
    "cached": [
        lambda h, w, o, i: h * w * (o + i),
        lambda h, w, o, i: torch.tensor(h * w * o) + h * w * i,
        lambda h, w, o, i: float(h * w * (o + i)),
    ],
    "first": [
        prefix,
        looped,
        in_place,
        lambda x, n: prefix(x, n).numpy(),
        lambda x, n: prefix(x, n).float(),
        lambda x, n: torch.where(torch.arange(x[0].numel()).view(x.shape[1:]) < n, x, -1),
    ],
}
WRONG = {
    "shift_down": [
        (lambda u: u.roll(1, dims=1), "roll brings"),
        (lambda u: u.roll(1, dims=2), ""),
        (lambda u: torch.cat([torch.zeros_like(u[:, :, :1]), u[:, :, :-1]], dim=2), "to the right"),
        (lambda u: torch.cat([u[:, 1:], torch.zeros_like(u[:, :1])], dim=1), "upwards"),
        (lambda u: torch.cat([torch.zeros_like(u[:, :1]), u], dim=1), "drop the last row"),
        (lambda u: u[:, :-1], "zeros enter in row 0"),
        (lambda u: torch.cat([u[:, :1], u[:, :-1]], dim=1), "not a copy"),
        (lambda u: torch.cat([torch.zeros_like(u[:, :1]), u[:, 1:]], dim=1), "must move"),
        (lambda u: u, "u itself"),
        (lambda u: down(u)[:1].expand_as(u), "rows only [0]"),
        (lambda u: 2 * down(u), "zeros in row 0, then"),
    ],
    "axes_macs": [
        (lambda s, d: macs(s, d) // 2, "two products"),
        (lambda s, d: 2 * math.prod(s) ** 2 * d, "full attention"),
        (lambda s, d: 2 * sum(s) ** 2 * d, "every position asks"),
        (lambda s, d: 2 * d * sum(n * n for n in s), "one line an axis"),
        (lambda s, d: 2 * macs(s, d), "FLOPs"),
        (lambda s, d: 2 * math.prod(s) * len(s) * d, "sum their lengths"),
        (lambda s, d: 2 * math.prod(s) * sum(s), "costs D"),
        (lambda s, d: list(s), "one number"),
        (lambda s, d: 145_227_776 / 2, ""),
    ],
    "cached": [
        (lambda h, w, o, i: h * h * w * o + h * w * w * i, "without a memory"),
        (lambda h, w, o, i: (h * w) ** 2 * (o + i), "naive"),
        (lambda h, w, o, i: h * w * o + h * w * w * i, "within a row"),
        (lambda h, w, o, i: h * h * w * o + h * w * i, "outer layers, too"),
        (lambda h, w, o, i: h * o + h * w * i, "every pixel of a new row"),
        (lambda h, w, o, i: (h + w) * (o + i), "H W, not H + W"),
        (lambda h, w, o, i: 336, "how often"),
    ],
    "first": [
        (pixelwise, "plane after plane"),
        (columnwise, "rows come first"),
        (lambda x, n: pixelwise(x.transpose(1, 2), n).transpose(1, 2), ""),
        (lambda x, n: prefix(x.flip(1, 2, 3), n).flip(1, 2, 3), "the last n"),
        (lambda x, n: torch.where(prefix(x, n) < 0, x, -1), "swapped"),
        (lambda x, n: prefix(x, n + 1), "one too many"),
        (lambda x, n: prefix(x, max(n - 1, 0)), "one too few"),
        (lambda x, n: prefix(x.flatten()[None], n).view(x.shape), "of *each* picture"),
        (lambda x, n: prefix(x.flatten(0, 1), n).view(x.shape), "of each plane"),
        (lambda x, n: prefix(x, n).clamp_min(0), "holds -1"),
        (lambda x, n: prefix(x, n).flatten(1), "shape"),
        (first_picture, ""),
        (lambda x, n: prefix(x, n) * 2, "planes, then rows"),
    ],
}
