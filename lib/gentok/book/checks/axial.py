"""Checks of the Axial Transformer chapter's exercises."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gentok.book.checks import Arguments, Mistake, Unfit, Verdict, as_array, as_number, check
from gentok.tokens.axial.layers import COLUMN, ROW, shift


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def shift_down(answer: Callable) -> Verdict:
    """``shift_down(u)``: (B, H, W, D), row i of the result is row i - 1, zeros enter on top."""

    def right(u: Tensor) -> Tensor:
        return shift(u, COLUMN)

    generator = _seeded()
    shapes = ((2, 3, 4, 5), (3, 5, 2, 1), (1, 4, 4, 3))
    return check(
        answer,
        right,
        [(torch.randn(*shape, generator=generator),) for shape in shapes],
        [
            Mistake("roll brings the last row to the top, a leak", lambda u: u.roll(1, dims=1)),
            Mistake("that is a shift to the right; rows are axis 1", lambda u: shift(u, ROW)),
            Mistake(
                "upwards; row i would see row i + 1",
                lambda u: torch.cat([u[:, 1:], torch.zeros_like(u[:, :1])], dim=1),
            ),
            Mistake("the shape stays: drop the last row", lambda u: _padded(u)),
            Mistake("the shape stays: zeros enter in row 0", lambda u: u[:, :-1]),
            Mistake(
                "row 0 has nothing above it: zeros, not a copy of itself",
                lambda u: torch.cat([u[:, :1], u[:, :-1]], dim=1),
            ),
            Mistake(
                "only row 0 became zero; the others must move",
                lambda u: torch.cat([torch.zeros_like(u[:, :1]), u[:, 1:]], dim=1),
            ),
            Mistake("that is u itself", lambda u: u),
        ],
        otherwise="zeros in row 0, then all rows but the last",
    )


def _padded(u: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(u[:, :1]), u], dim=1)


def axes_macs(answer: Callable) -> Verdict:
    """``axes_macs(lengths, dim)``: MACs of one attention layer along every axis of a grid."""

    def right(lengths: tuple[int, ...], dim: int) -> int:
        return 2 * math.prod(lengths) * sum(lengths) * dim

    return check(
        answer,
        right,
        [((16, 64, 64), 8), ((8, 8), 64), ((3, 5, 7, 2), 6), ((9,), 4)],
        [
            Mistake("scores and weighted sums are two products", lambda s, d: right(s, d) / 2),
            Mistake("that is full attention", lambda s, d: 2 * math.prod(s) ** 2 * d),
            Mistake(
                "every position asks: N queries, not one a line", lambda s, d: 2 * sum(s) ** 2 * d
            ),
            Mistake(
                "that is one line an axis; there are N / length of them",
                lambda s, d: 2 * d * sum(n * n for n in s),
            ),
            Mistake("these are FLOPs; a MAC is two of them", lambda s, d: 2 * right(s, d)),
            Mistake(
                "layers along the axes add up: sum their lengths, not their product",
                lambda s, d: 2 * math.prod(s) * len(s) * d,
            ),
            Mistake("D channels: each read costs D", lambda s, d: right(s, 1)),
        ],
        read=lambda result, case: as_number(result),
        otherwise="N queries, each with as many keys as the axis is long, twice D a key",
        tolerance=1e-9,
    )


def cached(answer: Callable) -> Verdict:
    """``cached(height, width, outer, inner)``: positions times blocks of a plane, all kept."""

    def right(h: int, w: int, outer: int, inner: int) -> int:
        return h * w * (outer + inner)

    return check(
        answer,
        right,
        [(6, 8, 4, 3), (16, 16, 4, 4), (5, 3, 2, 1), (7, 4, 0, 2)],
        [
            Mistake(
                "that is the paper's sampler, without a memory",
                lambda h, w, o, i: h * h * w * o + h * w * w * i,
            ),
            Mistake(
                "that is the naive sampler", lambda h, w, o, i: (h * w) ** 2 * (o + i)
            ),
            Mistake(
                "within a row, earlier pixels need not run again",
                lambda h, w, o, i: h * w * o + h * w * w * i,
            ),
            Mistake(
                "outer layers, too, need only the newest row",
                lambda h, w, o, i: h * h * w * o + h * w * i,
            ),
            Mistake(
                "outer layers still see every pixel of a new row, once",
                lambda h, w, o, i: h * o + h * w * i,
            ),
            Mistake("all positions pass each block: H W, not H + W", lambda h, w, o, i:
                    (h + w) * (o + i)),
        ],
        read=lambda result, case: as_number(result),
        otherwise="how often must each position pass each block?",
        tolerance=1e-9,
    )  # fmt: skip


def first(answer: Callable) -> Verdict:
    """``first(pixels, n)``: (B, C, H, W) int64, the first n numbers in order, -1 elsewhere."""

    def right(pixels: Tensor, n: int) -> Tensor:
        return _kept(pixels, torch.arange(pixels[0].numel()).view(pixels.shape[1:]) < n)

    def in_order(*axes: int) -> Callable:
        """The order of drawing with the axes (0 plane, 1 row, 2 column) from slow to fast."""

        def wrong(pixels: Tensor, n: int) -> Tensor:
            sizes = [pixels.shape[1 + axis] for axis in axes]
            rank = torch.arange(math.prod(sizes)).view(sizes)
            back = [axes.index(axis) for axis in range(3)]
            return _kept(pixels, rank.permute(back) < n)

        return wrong

    generator, cases = _seeded(), []
    for shape, n in (((3, 3, 4, 5), 33), ((2, 3, 4, 4), 6), ((2, 2, 3, 3), 0), ((2, 3, 3, 2), 18)):
        cases.append((torch.randint(8, shape, generator=generator), n))

    def read(result: Any, case: Arguments) -> Tensor:
        array = as_array(result)
        if array.ndim == 4 and bool(((array == 0) & (case[0] != 0)).any()):
            raise Unfit("0 is a shade; a place to be drawn holds -1")
        return array

    return check(
        answer,
        right,
        cases,
        [
            Mistake("plane after plane: not all planes of a pixel at once", in_order(1, 2, 0)),
            Mistake("inside a plane rows come first, not columns", in_order(0, 2, 1)),
            Mistake("plane after plane: not row by row of all planes", in_order(1, 0, 2)),
            Mistake("these are the last n", lambda x, n: right(x.flip(1, 2, 3), n).flip(1, 2, 3)),
            Mistake(
                "kept and drawn are swapped",
                lambda x, n: torch.where(right(x, n) < 0, x, -1),
            ),
            Mistake("one too many: the first n are numbers 0 to n - 1", lambda x, n:
                    right(x, n + 1)),
            Mistake("one too few", lambda x, n: right(x, max(n - 1, 0))),
            Mistake(
                "of *each* picture the first n, not of the whole batch",
                lambda x, n: torch.where(torch.arange(x.numel()).view(x.shape) < n, x, -1),
            ),
            Mistake("n numbers, not n numbers of each plane", lambda x, n:
                    _kept(x, (torch.arange(x[0, 0].numel()) < n).view(x.shape[2:]))),
        ],
        read=read,
        otherwise="planes, then rows, then columns; -1 behind the first n",
    )  # fmt: skip


def _kept(pixels: Tensor, keep: Tensor) -> Tensor:
    return torch.where(keep.expand_as(pixels), pixels, -1)
