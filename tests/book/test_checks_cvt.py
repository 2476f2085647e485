"""The checks of the CvT chapter tell right answers, in every form, from wrong ones."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from exercise_answers import *  # noqa: F403

from gentok.backbones.cvt.cost import block_macs
from gentok.book.checks import cvt

CHECKS = cvt


def sides(size, first=2, plus=1):
    found = []
    for kernel, stride, padding in ((7, 4, first), (3, 2, 1), (3, 2, 1)):
        size = math.floor((size + 2 * padding - kernel) / stride + plus)
        found.append(size)
    return found


def by_convolution(size):
    """The grids that convolutions really give."""
    x, found = torch.zeros(1, 1, size, size), []
    for kernel, stride, padding in ((7, 4, 2), (3, 2, 1), (3, 2, 1)):
        x = F.conv2d(x, torch.zeros(1, 1, kernel, kernel), stride=stride, padding=padding)
        found.append(x.shape[-1])
    return found


def macs(dim, side):
    gone = side**2 - math.ceil(side / 2) ** 2
    return (18 * dim + 2 * dim**2 + 2 * side**2 * dim) * gone


def project(x, weight, size, stride):
    grid = x[:, 1:].transpose(1, 2).unflatten(2, size)
    looked = F.conv2d(grid, weight, stride=stride, padding=1, groups=len(weight))
    return torch.cat([x[:, :1], looked.flatten(2).transpose(1, 2)], dim=1)


def looped(x, weight, size, stride):
    """Every place by itself."""
    (height, width), tokens = size, [x[:, 0]]
    grid = F.pad(x[:, 1:].view(len(x), height, width, -1), (0, 0, 1, 1, 1, 1))
    for row in range(0, height, stride):
        for column in range(0, width, stride):
            window = grid[:, row : row + 3, column : column + 3]  # (B, 3, 3, C)
            tokens.append((window * weight[:, 0].permute(1, 2, 0)).sum((1, 2)))
    return torch.stack(tokens, 1)


def share(weight):
    response = torch.fft.fft2(weight[:, 0], s=(33, 33)).abs().mean(0)
    return response[0, 0] / response.mean()


def summed(weight):
    """Frequency 0 is the sum of a filter's weights."""
    response = torch.fft.fft2(weight[:, 0], s=(33, 33)).abs().mean(0)
    return weight.sum((1, 2, 3)).abs().mean() / response.mean()


RIGHT = {
    "grids": [
        sides,
        by_convolution,
        lambda n: tuple(sides(n)),
        lambda n: np.array(sides(n)),
        lambda n: torch.tensor(sides(n)),
        lambda n: (side for side in sides(n)),
        lambda n: list(map(float, sides(n))),
    ],
    "saved": [
        macs,
        lambda *a: float(macs(*a)),
        lambda *a: torch.tensor(macs(*a)),
        lambda *a: np.int64(macs(*a)),
        lambda c, n: block_macs(c, n, n, False, 1, True) - block_macs(c, n, n, False, 2, True),
        lambda c, n: 2 * c * (9 + c + n * n) * (n * n - ((n + 1) // 2) ** 2),
    ],
    "projected": [
        project,
        looped,
        lambda *a: project(*a).numpy(),
        lambda x, w, size, stride: project(x.double(), w.double(), size, stride),
        lambda x, w, size, stride: torch.cat(
            [
                x[:, :1],
                F.unfold(x[:, 1:].mT.unflatten(2, size), 3, padding=1, stride=stride)
                .unflatten(1, (-1, 9))
                .mul(w.view(-1, 9, 1))
                .sum(2)
                .mT,
            ],
            1,
        ),
    ],
    "low_share": [
        share,
        summed,
        lambda w: float(share(w)),
        lambda w: share(w.double()).numpy(),
        lambda w: share(w.flip(2, 3)),  # a turned filter has the same response
        lambda w: share(-w),
    ],
}

WRONG = {
    "grids": [
        (lambda n: sides(n, first=3), "not 3"),
        (lambda n: sides(n, plus=0), "not added"),
        (lambda n: [side**2 for side in sides(n)], "not numbers of tokens"),
        (lambda n: [n // 4, n // 8, n // 16], "right where strides divide"),
        (lambda n: [sides(n)[0], (n + 2 - 3) // 2 + 1, (n + 2 - 3) // 2 + 1], "grid before it"),
        (lambda n: [56, 28, 14], ""),  # the page's own numbers
        (lambda n: sides(n)[:2], "three sides"),
        (lambda n: n // 16, "three sides"),
        (lambda n: [sides(n)], "three sides"),
        (lambda n: {"a": 1}, "not a dict"),
    ],
    "saved": [
        (lambda c, n: (18 * c + 2 * c * c + 2 * n * n * c) * (n * n - (n // 2) ** 2), "rounds up"),
        (lambda c, n: (18 * c + 2 * c * c + 2 * n * n * c) * 0.75 * n * n, "even"),
        (lambda c, n: macs(c, n) - (18 * c) * (n * n - math.ceil(n / 2) ** 2), "depth-wise"),
        (lambda c, n: macs(c, n) - (9 * c) * (n * n - math.ceil(n / 2) ** 2), "two convolutions"),
        (lambda c, n: macs(c, n) - c * c * (n * n - math.ceil(n / 2) ** 2), "two linear maps"),
        (lambda c, n: macs(c, n) - 2 * c * c * (n * n - math.ceil(n / 2) ** 2), "linear maps of"),
        (lambda c, n: 2 * n * n * c * (n * n - math.ceil(n / 2) ** 2), "convolved and mapped"),
        (lambda *a: 2 * macs(*a), "FLOPs"),
        (lambda *a: -macs(*a), "stride 1 less stride 2"),
        (lambda c, n: block_macs(c, n, n, False, 2, True), "what is left"),
        (lambda c, n: macs(n, c), "subtract"),
        (lambda *a: [macs(*a)] * 3, "one number"),
        (lambda *a: float("nan"), "NaN"),
    ],
    "projected": [
        (lambda *a: project(*a)[:, 1:], "class token is missing"),
        (lambda x, w, size, s: project(x, w, size[::-1], s), "rows first"),
        (lambda x, w, size, s: project(x, w, size, 1), "stride is left out"),
        (lambda x, w, size, s: project(x, w.flip(2, 3), size, s), "do not flip"),
        (lambda *a: project(*a).mT, ""),
        (lambda *a: project(*a)[0], "return tokens (B, N, C)"),
        (lambda *a: project(*a)[:1].expand(3, -1, -1), "rows only [0]"),
        (
            lambda x, w, size, s: torch.cat(
                [
                    x[:, :1],
                    F.conv2d(
                        x[:, 1:].reshape(len(x), -1, *size), w, stride=s, padding=1, groups=len(w)
                    )
                    .flatten(2)
                    .mT,
                ],
                1,
            ),
            "move the channels",
        ),
        (lambda x, w, size, s: x, ""),
    ],
    "low_share": [
        (lambda w: 1 / share(w), "other way round"),
        (
            lambda w: (
                torch.fft.fftshift(torch.fft.fft2(w[:, 0], s=(33, 33)).abs().mean(0))[0, 0]
                / torch.fft.fft2(w[:, 0], s=(33, 33)).abs().mean()
            ),
            "fftshift",
        ),
        (
            lambda w: (
                torch.fft.fft2(w[:, 0].mean(0), s=(33, 33)).abs()[0, 0]
                / torch.fft.fft2(w[:, 0].mean(0), s=(33, 33)).abs().mean()
            ),
            "absolute values before",
        ),
        (
            lambda w: (
                torch.fft.fft2(w[:, 0], s=(33, 33)).abs().square()[:, 0, 0].mean()
                / torch.fft.fft2(w[:, 0], s=(33, 33)).abs().square().mean()
            ),
            "that is the power",
        ),
        (
            lambda w: torch.fft.fft2(w[:, 0]).abs()[:, 0, 0].mean()
            / torch.fft.fft2(w[:, 0]).abs().mean(),
            "pad to 33",
        ),
        (lambda w: torch.stack([share(one[None]) for one in w]).mean(), "channels first"),
        (lambda w: torch.stack([share(one[None]) for one in w]), "one number"),
        (lambda w: share(w[:1]), ""),
        (lambda w: 1.0, ""),
    ],
}  # fmt: skip
