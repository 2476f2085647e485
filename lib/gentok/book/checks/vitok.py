"""Checks of the ViTok chapter's exercises."""

from collections.abc import Callable

import torch
from torch import Tensor

from gentok.book.checks import Mistake, Verdict, as_number, check
from gentok.nn.rope import turn_pairs


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def floats(answer: Callable) -> Verdict:
    """``floats(frames, side, tubelet, patch, channels)``: E, a number."""

    def right(frames: int, side: int, tubelet: int, patch: int, channels: int) -> int:
        return frames // tubelet * (side // patch) ** 2 * channels

    return check(
        answer,
        right,
        [(1, 256, 1, 16, 16), (16, 128, 4, 8, 16), (1, 32, 1, 8, 4), (8, 64, 2, 16, 3)],
        [
            Mistake("variances do not count: a code is its means", lambda *a: 2 * right(*a)),
            Mistake(
                "those are the tokens L; each holds c numbers",
                lambda t, s, q, p, c: right(t, s, q, p, 1),
            ),
            Mistake(
                "a picture has patches in two directions",
                lambda t, s, q, p, c: t // q * (s // p) * c,
            ),
            Mistake(
                "frames are gathered into tubelets, too",
                lambda t, s, q, p, c: t * (s // p) ** 2 * c,
            ),
            Mistake(
                "that is the compression factor, not the number of floats",
                lambda t, s, q, p, c: 3 * t * s * s / right(t, s, q, p, c),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="count tubelets along each axis, multiply, and times c",
    )


def mean_kl(answer: Callable) -> Verdict:
    """``mean_kl(mean, logvar)``: the KL term of codes (B, c, h, w), a number."""

    def right(mean: Tensor, logvar: Tensor) -> float:
        return float(0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean())

    generator, cases = _seeded(1), []
    for shape in ((2, 3, 4, 4), (3, 8, 2, 2)):
        mean = torch.randn(shape, generator=generator) + 0.4
        cases.append((mean, torch.randn(shape, generator=generator) - 1))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "that is a sum over a code's numbers: with it beta would mean another thing for "
                "every E",
                lambda m, v: right(m, v) * m[0].numel(),
            ),
            Mistake("that is a sum over the batch, too", lambda m, v: right(m, v) * m.numel()),
            Mistake("the factor 1/2 is missing", lambda m, v: 2 * right(m, v)),
            Mistake(
                "logvar is the logarithm of the variance, not of the standard deviation",
                lambda m, v: right(m, 2 * v),
            ),
            Mistake("the -1 is missing", lambda m, v: right(m, v) + 0.5),
            Mistake("the sign is turned: a KL is not negative", lambda m, v: -right(m, v)),
        ],
        read=lambda result, case: as_number(result),
        otherwise="half of the mean of mean^2 + variance - 1 - log variance",
    )


def turned(answer: Callable) -> Verdict:
    """``turned(pairs, n)``: pairs (d/2, 2) of a query at token n, turned; (d/2, 2)."""

    def turn(pairs: Tensor, n: int, sign: float = 1.0, exponent: float = 2.0) -> Tensor:
        d = 2 * len(pairs)
        angle = sign * n * 10000.0 ** (-exponent * torch.arange(len(pairs)) / d)
        turns = torch.stack([angle.cos(), angle.sin()], -1)
        return turn_pairs(pairs.flatten()[None], turns[None])[0].unflatten(0, (-1, 2))

    def right(pairs: Tensor, n: int) -> Tensor:
        return turn(pairs, n)

    generator = _seeded(2)
    cases = [(torch.randn(half, 2, generator=generator), n) for half, n in ((4, 3), (8, 11))]
    return check(
        answer,
        right,
        cases,
        [
            Mistake("turned the other way round", lambda x, n: turn(x, n, sign=-1.0)),
            Mistake(
                "the exponent is -2i/d: the slowest pair turns by about 1/10000 a token",
                lambda x, n: turn(x, n, exponent=1.0),
            ),
            Mistake(
                "all pairs turn by the same angle; each has a frequency of its own",
                lambda x, n: turn(x, n, exponent=0.0),
            ),
            Mistake("nothing is turned", lambda x, n: x.clone()),
            Mistake("a rotation keeps lengths; nothing is added", lambda x, n: turn(x, n) + x),
        ],
        otherwise="pair i turns by n 10000^(-2i/d): (a cos - b sin, a sin + b cos)",
    )


def rising(answer: Callable) -> Verdict:
    """``rising(step, start, ramp, largest)``: lambda at a step, a number."""

    def right(step: int, start: int, ramp: int, largest: float) -> float:
        return largest * min(max((step - start) / ramp, 0.0), 1.0)

    cases = [
        (0, 10, 20, 0.5),
        (15, 10, 20, 0.5),
        (30, 10, 20, 0.5),
        (90, 10, 20, 0.5),
        (7, 5, 8, 2.0),
    ]
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "it stays at its largest value after the ramp",
                lambda s, a, r, m: m * max((s - a) / r, 0.0),
            ),
            Mistake(
                "it is 0 before the start, not negative",
                lambda s, a, r, m: m * min((s - a) / r, 1.0),
            ),
            Mistake(
                "the ramp begins at the start, not at step 0",
                lambda s, a, r, m: m * min(s / r, 1.0) if s >= a else 0.0,
            ),
            Mistake(
                "it rises linearly; it is not switched on",
                lambda s, a, r, m: m if s >= a else 0.0,
            ),
            Mistake(
                "ramp is the length of the rise, not the step where it ends",
                lambda s, a, r, m: m * min(max((s - a) / (r - a), 0.0), 1.0),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="the share of the ramp that lies behind, held between 0 and 1, times lambda",
    )
