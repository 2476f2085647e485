"""Checks of the Mogo chapter's exercises."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gentok.book.checks import Mistake, Verdict, as_number, check


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def bitrate(answer: Callable) -> Verdict:
    """``bitrate(fps, levels, codebook_size)``: bits a second of a stream of columns."""

    def right(fps: float, levels: int, size: int) -> float:
        return fps * levels * math.log2(size)

    return check(
        answer,
        right,
        [(20, 6, 512), (20, 4, 128), (12.5, 1, 1024), (30, 3, 100)],
        [
            Mistake(
                "that is a frame; there are fps of them a second", lambda f, q, k: right(1, q, k)
            ),
            Mistake("that is a single level", lambda f, q, k: right(f, 1, k)),
            Mistake("a choice among K takes log2 K bits, not K", lambda f, q, k: f * q * k),
            Mistake(
                "these are nats; bits need the logarithm to base 2",
                lambda f, q, k: f * q * math.log(k),
            ),
            Mistake(
                "levels multiply the choices: log2 of K^Q, not of K Q",
                lambda f, q, k: f * math.log2(k * q),
            ),
            Mistake("these are bytes", lambda f, q, k: right(f, q, k) / 8),
            Mistake(
                "a code of 100 choices carries log2(100) bits at most; do not round up",
                lambda f, q, k: f * q * math.ceil(math.log2(k)),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="fps times levels times log2 of the codebook's size",
    )


def inputs(answer: Callable) -> Verdict:
    """``inputs(table, codes)``: prefix sums of embeddings, (K, D) and (B, T, Q) -> (B, T, Q, D)."""

    def right(table: Tensor, codes: Tensor) -> Tensor:
        return table[codes].cumsum(2)

    generator, cases = _seeded(), []
    for rows, frames, levels in ((2, 3, 4), (3, 5, 2), (4, 2, 6)):
        table = torch.randn(9, 5, generator=generator)
        cases.append((table, torch.randint(9, (rows, frames, levels), generator=generator)))
    return check(
        answer,
        right,
        cases,
        [
            Mistake("single embeddings; level i sums levels 0 to i", lambda t, c: t[c]),
            Mistake(
                "the sum includes level i itself (of past frames)",
                lambda t, c: right(t, c) - t[c],
            ),
            Mistake("summed over time; sum over levels", lambda t, c: t[c].cumsum(1)),
            Mistake(
                "from the fine end; start at level 0",
                lambda t, c: t[c].flip(2).cumsum(2).flip(2),
            ),
            Mistake(
                "every level got all levels; level i sums 0 to i only",
                lambda t, c: t[c].sum(2, keepdim=True).expand(*c.shape, -1),
            ),
            Mistake("add vectors, not codes: look up first", lambda t, c: t[c.cumsum(2) % len(t)]),
        ],
        otherwise="look up, then add up along the axis of levels",
    )


def by_key(answer: Callable) -> Verdict:
    """``by_key(scores)``: scores sorted by distance, largest first -> by key, 0 in the future."""

    def right(scores: Tensor, reverse: bool = False) -> Tensor:
        n = len(scores)
        distance = torch.arange(n)[:, None] - torch.arange(n)
        column = distance if reverse else n - 1 - distance
        return scores.gather(1, column.clamp(0, n - 1)).masked_fill(distance < 0, 0)

    def unmasked(scores: Tensor) -> Tensor:
        """What reading the padded matrix in rows of another length gives, the future included."""
        n = len(scores)
        padded = torch.nn.functional.pad(scores, (1, 0))
        return padded.reshape(n + 1, n)[1:]

    generator = _seeded()
    return check(
        answer,
        right,
        [(torch.randn(n, n, generator=generator),) for n in (5, 3, 8)],
        [
            Mistake("entries with b > a must be 0", unmasked),
            Mistake("rows must move; column j is a distance, not a key", lambda s: s.tril()),
            Mistake("rows must move; column j is a distance, not a key", lambda s: s),
            Mistake(
                "the smallest distance stands last: column N - 1 is distance 0",
                lambda s: right(s, reverse=True),
            ),
            Mistake("queries are rows and keys columns", lambda s: right(s).T),
            Mistake("reversed; the key itself (b = a) has distance 0", lambda s: s.flip(1).tril()),
        ],
        otherwise="row a takes column N - 1 - (a - b) for key b",
    )


def delay(answer: Callable) -> Verdict:
    """``delay(kernels, dilations, fps)``: seconds by which a chain of convolutions lags."""

    def right(kernels: list[int], dilations: list[int], fps: float) -> float:
        return sum(d * (k - 1) // 2 for k, d in zip(kernels, dilations, strict=True)) / fps

    def plain(kernels: list[int], dilations: list[int], fps: float) -> float:
        return right(kernels, [1] * len(kernels), fps)

    return check(
        answer,
        right,
        [
            ([3, 3, 1, 3, 1, 3, 1, 3, 3, 3], [1, 9, 1, 3, 1, 1, 1, 1, 1, 1], 20),
            ([5, 3], [2, 4], 12.5),
            ([7], [1], 30),
        ],
        [
            Mistake("that is both sides; only columns after the frame delay it",
                    lambda k, d, f: 2 * right(k, d, f)),
            Mistake("dilation spreads a kernel: d (k - 1) / 2", plain),
            Mistake("these are columns; divide by fps for seconds",
                    lambda k, d, f: right(k, d, 1)),
            Mistake("the whole field of view holds the frame itself and both sides",
                    lambda k, d, f: (2 * right(k, d, 1) + 1) / f),
            Mistake("a kernel of k reads (k - 1) / 2 places to either side, not k",
                    lambda k, d, f: sum(a * b for a, b in zip(k, d, strict=True)) / f),
            Mistake("reaches of a chain add up; the widest layer alone is not enough",
                    lambda k, d, f: max(b * (a - 1) // 2 for a, b in zip(k, d, strict=True)) / f),
            Mistake("frames wait for one column more than that? Count after the frame's own",
                    lambda k, d, f: (right(k, d, 1) + 1) / f),
        ],
        read=lambda result, case: as_number(result),
        otherwise="add d (k - 1) / 2 over the layers, then divide by fps",
    )  # fmt: skip
