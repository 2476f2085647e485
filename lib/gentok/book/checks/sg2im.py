"""Checks of the exercises of the chapter on scene graphs."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gentok.book.checks import Mistake, Verdict, as_number, check
from gentok.tokens.sg2im.boxes import overlap
from gentok.tokens.sg2im.tokens import LayoutTokens


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def edge_weights(answer: Callable) -> Verdict:
    """``edge_weights(k, q, e)``: the share of each arriving edge in one head, (L,).

    ``k`` (L, d) of the sources, ``q`` (d,) of the target, ``e`` (L, d) of the edges.
    """

    def score(k: Tensor, q: Tensor, e: Tensor) -> Tensor:
        return (k * q * e).sum(1) / math.sqrt(len(q))

    def right(k: Tensor, q: Tensor, e: Tensor) -> Tensor:
        weight = score(k, q, e).clamp(-5, 5).exp()
        return weight / weight.sum()

    generator, cases = _seeded(), []
    for edges, width in ((3, 4), (5, 9), (1, 4)):
        k, e = (2.5 * torch.randn(edges, width, generator=generator) for _ in range(2))
        cases.append((k, 2.5 * torch.randn(width, generator=generator), e))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "the exponent is clipped to [-5, 5] before exp",
                lambda k, q, e: score(k, q, e).softmax(0),
            ),
            Mistake(
                "divide by the root of d, the width of a head",
                lambda k, q, e: _shares(score(k, q, e) * math.sqrt(len(q))),
            ),
            Mistake(
                "without the edge's own vector a predicate changes nothing",
                lambda k, q, e: _shares((k * q).sum(1) / math.sqrt(len(q))),
            ),
            Mistake(
                "the edge multiplies channel by channel, before the sum; it is not added",
                lambda k, q, e: _shares((k * q + e).sum(1) / math.sqrt(len(q))),
            ),
            Mistake(
                "clip the sum over channels, not each channel",
                lambda k, q, e: (k * q * e / math.sqrt(len(q))).clamp(-5, 5).sum(1).softmax(0),
            ),
            Mistake(
                "these do not add up to 1: divide by their sum",
                lambda k, q, e: score(k, q, e).clamp(-5, 5).exp(),
            ),
        ],
        otherwise="multiply key, query and edge, sum over channels, clip, exp, divide by the sum",
    )


def _shares(score: Tensor) -> Tensor:
    return score.clamp(-5, 5).softmax(0)


def corner_token(answer: Callable) -> Verdict:
    """``corner_token(x, y, codebook_size)``: the token of a corner in [0, 1], a number."""

    def right(x: float, y: float, codebook_size: int) -> int:
        return int(LayoutTokens(codebook_size, 1).corner(torch.tensor([x, y], dtype=torch.float64)))

    def places(codebook_size: int) -> int:
        return math.isqrt(codebook_size - 1)

    return check(
        answer,
        right,
        [(0.27, 0.81, 256), (1.0, 1.0, 8192), (0.6, 0.05, 1024), (0.9, 0.4, 256)],
        [
            Mistake(
                "rows first: y counts whole rows of n tokens",
                lambda x, y, k: right(y, x, k),
            ),
            Mistake(
                "the corner (1, 1) must fit: multiply by n - 1, not by n",
                lambda x, y, k: round(places(k) * y) * places(k) + round(places(k) * x),
            ),
            Mistake(
                "round to the nearest place",
                lambda x, y, k: int((places(k) - 1) * y) * places(k) + int((places(k) - 1) * x),
            ),
            Mistake(
                "of 256 codes n = 16 would give the corner (1, 1) the token of padding, 255",
                lambda x, y, k: (
                    round((math.isqrt(k) - 1) * y) * math.isqrt(k) + round((math.isqrt(k) - 1) * x)
                ),
            ),
            Mistake(
                "a row has n tokens, not n - 1",
                lambda x, y, k: (
                    round((places(k) - 1) * y) * (places(k) - 1) + round((places(k) - 1) * x)
                ),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="with n the whole root of K - 1 it is round((n - 1) y) n + round((n - 1) x)",
    )


def box_overlap(answer: Callable) -> Verdict:
    """``box_overlap(a, b)``: intersection over union of boxes (N, 4) each, (N,)."""
    generator, cases = _seeded(2), []
    for rows in (6, 9):
        corners = 0.5 * torch.rand(2, rows, 2, generator=generator)
        sizes = 0.2 + 0.3 * torch.rand(2, rows, 2, generator=generator)
        boxes = torch.cat([corners, corners + sizes], -1)
        boxes[0, 0] = torch.tensor([0.0, 0.0, 0.1, 0.1])  # apart from the other
        boxes[1, 0] = torch.tensor([0.6, 0.7, 0.9, 0.9])
        cases.append((boxes[0], boxes[1]))

    def common(a: Tensor, b: Tensor, least: float) -> Tensor:
        low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
        return (high - low).clamp_min(least).prod(-1)

    def area(box: Tensor) -> Tensor:
        return (box[:, 2:] - box[:, :2]).prod(-1)

    return check(
        answer,
        overlap,
        cases,
        [
            Mistake(
                "boxes that are apart have no common area: two negative sides multiply to a "
                "positive one",
                lambda a, b: common(a, b, -9) / (area(a) + area(b) - common(a, b, -9)),
            ),
            Mistake(
                "the union holds the common area once: subtract it",
                lambda a, b: common(a, b, 0) / (area(a) + area(b)),
            ),
            Mistake("that is the common area; divide by the union", lambda a, b: common(a, b, 0)),
            Mistake("that is the loss, 1 - IoU", lambda a, b: 1 - overlap(a, b)),
            Mistake(
                "divide by the union, not by the larger box",
                lambda a, b: common(a, b, 0) / torch.maximum(area(a), area(b)),
            ),
        ],
        otherwise="the common box runs from the larger low corner to the smaller high corner",
    )
