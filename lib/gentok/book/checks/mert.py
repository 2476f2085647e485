"""Checks of the MERT chapter's exercises."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gentok.book.checks import Mistake, Unfit, Verdict, as_array, as_number, check

CLIPS, FRAMES = 3, 12  # of the targets that must fit


def hidden_share(answer: Callable) -> Verdict:
    """``hidden_share(share, length)``: expected share of hidden frames, spans may overlap."""

    def right(share: float, length: int) -> float:
        return 1 - (1 - share / length) ** length

    return check(
        answer,
        right,
        [(0.8, 5), (0.65, 10), (0.3, 3), (0.5, 1)],
        [
            Mistake("that is the visible share", lambda s, n: 1 - right(s, n)),
            Mistake("spans overlap: frames that two spans cover count once", lambda s, n: s),
            Mistake("a start has probability share / length", lambda s, n: 1 - (1 - s) ** n),
            Mistake("that is the probability that a frame is a start", lambda s, n: s / n),
            Mistake("that is the limit of long spans", lambda s, n: 1 - math.exp(-s)),
            Mistake(
                "length starts cover a frame: its own and the length - 1 before it",
                lambda s, n: 1 - (1 - s / n) ** (n - 1),
            ),
            Mistake(
                "length starts cover a frame: its own and the length - 1 before it",
                lambda s, n: 1 - (1 - s / n) ** (n + 1),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="a frame stays visible if none of the starts that would cover it is drawn",
        tolerance=1e-6,
    )


def window_length(answer: Callable) -> Verdict:
    """``window_length(rate, low, bins_per_octave, j)``: samples that bin j looks at."""

    def length(rate: float, low: float, octave: int, k: int, rounding: Callable = math.ceil) -> int:
        quality = 1 / (2 ** (1 / octave) - 1)
        return rounding(quality * rate / (low * 2 ** (k / octave)))

    return check(
        answer,
        length,
        [
            (8000, 65.41, 12, 0),
            (8000, 65.41, 12, 12),
            (24_000, 32.7, 48, 100),
            (8000, 65.41, 24, 7),
        ],
        [
            Mistake(
                "round up: the window must hold P whole periods",
                lambda *a: length(*a, rounding=math.floor),
            ),
            Mistake(
                "round up: the window must hold P whole periods",
                lambda *a: length(*a, rounding=round),
            ),
            Mistake(
                "round up: the window must hold P whole periods",
                lambda *a: length(*a, rounding=float),
            ),
            Mistake(
                "that is one period; the window holds P of them",
                lambda r, low, b, k: math.ceil(r / (low * 2 ** (k / b))),
            ),
            Mistake(
                "a higher bin has shorter periods, so fewer samples",
                lambda r, low, b, k: length(r, low, b, -k),
            ),
            Mistake(
                "P depends on bins_per_octave",
                lambda r, low, b, k: math.ceil(r / (low * 2 ** (k / b)) / (2 ** (1 / 12) - 1)),
            ),
            Mistake(
                "bin j is j / bins_per_octave octaves above the lowest",
                lambda r, low, b, k: math.ceil(r / (low + k) / (2 ** (1 / b) - 1)),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="P = 1 / (2^(1/b) - 1) periods of rate / f_j samples, rounded up",
        tolerance=1e-9,
    )


def unigram(answer: Callable) -> Verdict:
    """``unigram(codes, codebook_size)``: nats a frame of always predicting the frequencies."""

    def entropies(codes: Tensor, size: int) -> Tensor:
        levels = codes.flatten(0, 1).T  # (Q, N T)
        shares = torch.stack([torch.bincount(level, minlength=size) for level in levels])
        return torch.special.entr(shares.double() / levels.shape[1]).sum(1)  # (Q,)

    def right(codes: Tensor, size: int) -> Tensor:
        return entropies(codes, size).sum()

    def together(codes: Tensor, size: int) -> Tensor:
        return entropies(codes.reshape(1, -1, 1), size).sum()

    def by_clip(codes: Tensor, size: int) -> Tensor:
        return torch.stack([right(clip[None], size) for clip in codes]).mean()

    generator, cases = torch.Generator().manual_seed(0), []
    for clips, frames, levels, size in ((3, 20, 2, 8), (2, 30, 4, 16), (4, 10, 3, 5)):
        skew = torch.rand(clips, frames, levels, generator=generator) ** (1 + torch.arange(levels))
        cases.append(((0.9 * size * skew).long(), size))
    return check(
        answer,
        right,
        cases,
        [
            Mistake("those are bits; the loss is in nats", lambda c, k: right(c, k) / math.log(2)),
            Mistake(
                "sum over the codebooks, do not average", lambda c, k: right(c, k) / c.shape[-1]
            ),
            Mistake("count each codebook by itself", together),
            Mistake("count each codebook by itself", lambda c, k: c.shape[-1] * together(c, k)),
            Mistake("all clips share one histogram a codebook", by_clip),
            Mistake(
                "that is knowing nothing; use the frequencies",
                lambda c, k: c.shape[-1] * math.log(k),
            ),
            Mistake("that is the perplexity; leave out exp", lambda c, k: right(c, k).exp()),
            Mistake("the sign: -sum p log p", lambda c, k: -right(c, k)),
        ],
        read=lambda result, case: as_number(result),
        otherwise="the entropies -sum p log p of the Q codebooks, summed",
    )


def fit_targets(answer: Callable) -> Verdict:
    """``fit_targets(targets, frames)``: targets (B, T', C) that belong to the first frames."""
    targets = torch.randn(CLIPS, FRAMES + 2, 4, generator=torch.Generator().manual_seed(0))

    def stretched(x: Tensor, frames: int) -> Tensor:
        return torch.nn.functional.interpolate(x.mT, frames, mode="linear").mT

    def repeated(x: Tensor, frames: int) -> Tensor:
        return x[:, (torch.arange(frames) * x.shape[1] / frames).long()]

    def read(result, case) -> Tensor:
        array = as_array(result)
        if array.ndim != 3:
            raise Unfit(f"return targets (B, frames, C), not shape {tuple(array.shape)}")
        return array

    return check(
        answer,
        lambda x, frames: x[:, :frames],
        [(targets, FRAMES), (targets, FRAMES + 2), (targets, 5)],
        [
            Mistake("frame 0 belongs to frame 0; cut at the end", lambda x, n: x[:, -n:]),
            Mistake(
                "frame 0 belongs to frame 0; cut at the end, not on both sides",
                lambda x, n: x[:, (x.shape[1] - n) // 2 :][:, :n],
            ),
            Mistake("stretched: each target must stay at its own time", stretched),
            Mistake("stretched: each target must stay at its own time", repeated),
        ],
        read=read,
        otherwise="cut the surplus at the end; nothing else changes",
    )
