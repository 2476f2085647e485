"""Checks of the ENAT chapter's exercises."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gentok.base.masked.unmask import mask_schedule
from gentok.book.checks import Arguments, Mistake, Unfit, Verdict, as_array, as_number, check
from gentok.measure import code_usage
from gentok.process.guidance import guide


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def revealed(answer: Callable) -> Verdict:
    """``revealed(num_tokens, num_steps)``: how many tokens each step newly reveals, T numbers."""

    def steps(n: int, t: int, first: int = 1, rounding: Callable = math.floor) -> list[int]:
        # cos(pi/2) is not exactly 0, but rounds to it; max: a schedule that starts a step early.
        counts = [n, *(rounding(n * math.cos(math.pi / 2 * (s + first) / t)) for s in range(t))]
        return [a - b for a, b in pairwise(counts)]

    def right(n: int, t: int) -> list[int]:
        return [a - b for a, b in pairwise(mask_schedule(n, t))]

    def visible(n: int, t: int) -> list[int]:
        return [n - count for count in mask_schedule(n, t)[1:]]

    def linear(n: int, t: int) -> list[int]:
        counts = [n - n * s // t for s in range(t + 1)]
        return [a - b for a, b in pairwise(counts)]

    return check(
        answer,
        right,
        [(256, 8), (64, 8), (100, 5), (1024, 10)],
        [
            Mistake("these are all visible tokens; take differences", visible),
            Mistake(
                "these stay masked; how many are newly revealed?",
                lambda n, t: mask_schedule(n, t)[1:],
            ),
            Mistake("reversed: few are revealed at first", lambda n, t: right(n, t)[::-1]),
            Mistake(
                "one step off: after step t (from 0) the argument is (t + 1) / T",
                lambda n, t: steps(n, t, first=0),
            ),
            Mistake(
                "in float32 cos(pi/2) is a little below 0; the last step must leave 0",
                lambda n, t: [*right(n, t)[:-1], right(n, t)[-1] + 1],
            ),
            Mistake("round down, by floor", lambda n, t: steps(n, t, rounding=round)),
            Mistake("round down, not up", lambda n, t: steps(n, t, rounding=math.ceil)),
            Mistake("equal steps; the schedule is a cosine", linear),
        ],
        otherwise="floor(N cos(pi/2 (t+1)/T)) tokens stay masked after step t; T numbers, sum N",
    )


def step_macs(answer: Callable) -> Verdict:
    """``step_macs(dim, depth, new, old)``: MACs of the encoder and of f in one step.

    Without modulation: n_enc (12 D^2 |new| + 2 D^2 |old| + 2 |new| |visible| D) + 8 D^2 |old|.
    """

    def macs(
        d: int, depth: int, new: int, old: int, f: int = 8, kv: int = 2, seen: int = 1
    ) -> float:
        block = 12 * d**2 * new + kv * d**2 * old + 2 * new * (new + seen * old) * d
        return depth * block + f * d**2 * old

    def full(d: int, depth: int, new: int, old: int) -> float:
        visible = new + old
        return depth * (12 * d**2 * visible + 2 * visible * visible * d)

    return check(
        answer,
        macs,
        [(8, 3, 5, 7), (96, 4, 11, 20), (16, 1, 9, 0), (32, 22, 3, 40)],
        [
            Mistake("the projection f of old features is not free", lambda *a: macs(*a, f=0)),
            Mistake(
                "f is applied once a step, not once a layer",
                lambda d, depth, new, old: macs(d, depth, new, old, f=8 * depth),
            ),
            Mistake(
                "every layer projects keys and values of the old features anew",
                lambda *a: macs(*a, kv=0),
            ),
            Mistake("new tokens attend to old ones, too", lambda *a: macs(*a, seen=0)),
            Mistake("that is a step without reuse: old tokens are not encoded again", full),
            Mistake("these are FLOPs; a MAC is two of them", lambda *a: 2 * macs(*a)),
        ],
        read=lambda result, case: as_number(result),
        otherwise="start from 12 D^2 a new token and 2 D^2 an old one, in every block",
        tolerance=1e-9,
    )


def groups(answer: Callable) -> Verdict:
    """``groups(mask, previous)``: (new, old, masked) of two bool masks (B, N), True: masked.

    Positions (B, n) or bool masks (B, N), in a tuple, a list, or an object with these names.
    """

    def right(mask: Tensor, previous: Tensor) -> list[Tensor]:
        return [~mask & previous, ~previous, mask]

    generator, cases = _seeded(), []
    for n, hidden, more in ((12, 5, 3), (16, 10, 4), (9, 4, 5)):
        order = torch.rand(4, n, generator=generator).argsort(-1).argsort(-1)
        cases.append((order < hidden, order < hidden + more))

    def read(result: Any, case: Arguments) -> Tensor:
        names = ("new", "old", "masked")
        if isinstance(result, dict) and set(result) == set(names):
            result = [result[name] for name in names]
        elif all(hasattr(result, name) for name in names):
            result = [getattr(result, name) for name in names]
        if not isinstance(result, (list, tuple)) or len(result) != 3:
            raise Unfit("return three groups: new, old, masked")
        return torch.stack([_as_mask(group, *case[0].shape) for group in result], dim=1)

    def rearranged(*order: int) -> Callable:
        return lambda mask, previous: [right(mask, previous)[i] for i in order]

    return check(
        answer,
        right,
        cases,
        [
            Mistake("the order is new, old, masked", rearranged(1, 0, 2)),
            Mistake("the order is new, old, masked", rearranged(2, 0, 1)),
            Mistake("the order is new, old, masked", rearranged(2, 1, 0)),
            Mistake("True means masked, not visible", lambda m, p: right(~m, ~p)),
            Mistake(
                "old tokens were visible before: new ones were not",
                lambda m, p: [~m, ~p, m],
            ),
            Mistake(
                "a new token was masked before and is visible now",
                lambda m, p: [m & p, ~p, m],
            ),
        ],
        read=read,
        otherwise="new: visible now and masked before; old: visible before; masked: masked now",
    )


def _as_mask(group: Any, batch: int, length: int) -> Tensor:
    """A group as (B, N) of 0 and 1: from a mask, or from positions (B, n)."""
    is_bool = getattr(group, "dtype", None) in (torch.bool, np.bool_)
    index = as_array(group)
    if index.shape == (batch, length) and (is_bool or bool(((index == 0) | (index == 1)).all())):
        return index
    if index.ndim != 2 or len(index) != batch:
        raise Unfit(f"each group is (B, N) or (B, n) with B = {batch}, not {tuple(index.shape)}")
    if not bool(((index >= 0) & (index < length)).all()):
        raise Unfit(f"positions lie in 0 to {length - 1}")
    return torch.zeros(batch, length, dtype=torch.float64).scatter(1, index.long(), 1.0)


def guided(answer: Callable) -> Verdict:
    """``guided(given, free, guidance_scale, step, num_steps)``: logits (B, N, K) of one step.

    The scale grows linearly and lags a step behind: s = guidance_scale * step / num_steps, from 0.
    Logits that differ by a constant for each token, such as log-probabilities, are the same answer.
    """

    def at(shift: int = 0, plus: float = 1.0) -> Callable:
        def logits(c: Tensor, u: Tensor, scale: float, step: int, steps: int) -> Tensor:
            return guide(c, u, plus + scale * (step + shift) / steps)

        return logits

    generator = _seeded()
    cases = [
        (
            torch.randn(3, 5, 7, generator=generator),
            torch.randn(3, 5, 7, generator=generator),
            scale,
            step,
            steps,
        )
        for scale, step, steps in ((2.5, 0, 8), (2.5, 3, 8), (3.5, 7, 8), (1.5, 4, 12))
    ]

    def read(result: Any, case: Arguments) -> Tensor:
        logits = as_array(result)
        if logits.ndim != 3:
            raise Unfit(f"return logits (B, N, K), not shape {tuple(logits.shape)}")
        ones = torch.ones(logits.shape[:-1], dtype=torch.float64)
        if bool((logits >= 0).all()) and torch.allclose(logits.sum(-1), ones, atol=1e-4):
            raise Unfit("these are probabilities; return logits")
        return torch.log_softmax(logits, dim=-1)

    return check(
        answer,
        at(),
        cases,
        [
            Mistake("the scale lags: at step t (from 0) it is scale * t / T", at(shift=1)),
            Mistake("counted from given: given + s (given - free)", at(plus=0.0)),
            Mistake(
                "the scale must grow with the step",
                lambda c, u, scale, step, steps: guide(c, u, 1 + scale),
            ),
            Mistake(
                "given and free are swapped",
                lambda c, u, scale, step, steps: guide(u, c, 1 + scale * step / steps),
            ),
            Mistake(
                "the difference is given - free, not free - given",
                lambda c, u, scale, step, steps: guide(c, u, 1 - scale * step / steps),
            ),
            Mistake(
                "T steps are numbered 0 to T - 1: divide by T, not by T - 1",
                lambda c, u, scale, step, steps: guide(c, u, 1 + scale * step / (steps - 1)),
            ),
            Mistake("without guidance only the first step is right", lambda c, u, *_: c),
        ],
        read=read,
        otherwise="given + s (given - free), with s = guidance_scale * step / num_steps",
    )


def sc_attention(answer: Callable) -> Verdict:
    """``sc_attention(q, k_self, v_self, k_context, v_context)``: (B, h, n, d), under one softmax.

    Queries, keys and values of the tokens (B, h, n, d), of the context (B, h, m, d); m may be 0.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, axis: int = -1):
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        return (scale * q @ k.mT).softmax(axis) @ v

    def joined(q, k, v, kc, vc, **how):
        return attend(q, torch.cat([kc, k], dim=2), torch.cat([vc, v], dim=2), **how)

    generator, cases = _seeded(), []
    for n, m in ((4, 6), (5, 3), (3, 0)):
        q, k, v = (3 * torch.randn(2, 3, n, 8, generator=generator) for _ in range(3))
        kc, vc = (3 * torch.randn(2, 3, m, 8, generator=generator) for _ in range(2))
        cases.append((q, k, v, kc, vc))
    filled = cases[:2]  # a mistake that the empty context hides is still one

    verdict = check(
        answer,
        joined,
        filled,
        [
            Mistake(
                "two softmaxes; context and self share one",
                lambda q, k, v, kc, vc: attend(q, k, v) + attend(q, kc, vc),
            ),
            Mistake(
                "two softmaxes; context and self share one",
                lambda q, k, v, kc, vc: (attend(q, k, v) + attend(q, kc, vc)) / 2,
            ),
            Mistake("the context is left out", lambda q, k, v, kc, vc: attend(q, k, v)),
            Mistake(
                "the tokens must read themselves, too", lambda q, k, v, kc, vc: attend(q, kc, vc)
            ),
            Mistake("the scale 1/sqrt(d) is missing", lambda *a: joined(*a, scale=1.0)),
            Mistake(
                "the scale is d^(-1/2), not 1/d", lambda *a: joined(*a, scale=1 / a[0].shape[-1])
            ),
            Mistake(
                "d is the width of one head, not of all heads",
                lambda *a: joined(*a, scale=(a[0].shape[1] * a[0].shape[-1]) ** -0.5),
            ),
            Mistake("the softmax runs over keys, the last axis", lambda *a: joined(*a, axis=-2)),
            Mistake(
                "keys and values must be joined in the same order",
                lambda q, k, v, kc, vc: attend(
                    q, torch.cat([k, kc], dim=2), torch.cat([vc, v], dim=2)
                ),
            ),
        ],
        otherwise="softmax(q [k_context; k_self]^T / sqrt(d)) [v_context; v_self]",
    )
    if not verdict.correct:
        return verdict
    return check(answer, joined, cases[2:], otherwise="an empty context (first step) must work")


def perplexity(answer: Callable) -> Verdict:
    """``perplexity(codes, codebook_size)``: exp of the entropy of the codes' frequencies."""

    def entropy(codes: Tensor, size: int) -> Tensor:
        shares = torch.bincount(codes.flatten(), minlength=size).double() / codes.numel()
        return torch.special.entr(shares).sum()

    def smoothed(codes: Tensor, size: int) -> Tensor:
        shares = torch.bincount(codes.flatten(), minlength=size).double() + 1
        return torch.special.entr(shares / shares.sum()).sum().exp()

    def by_rows(codes: Tensor, size: int) -> Tensor:
        return torch.stack([entropy(row, size).exp() for row in codes]).mean()

    generator, cases = _seeded(), []
    for rows, tokens, size in ((4, 50, 8), (3, 64, 16), (5, 20, 64)):
        # Uneven, and some codes of the table never occur.
        draws = torch.rand(rows, tokens, generator=generator) ** 2 * 0.8 * size
        cases.append((draws.long(), size))
    return check(
        answer,
        lambda codes, size: code_usage(codes, size)["perplexity"],
        cases,
        [
            Mistake("that is the entropy in nats; take exp", entropy),
            Mistake("that is the entropy in bits; take 2^H", lambda *a: entropy(*a) / math.log(2)),
            Mistake(
                "the bases differ: exp goes with nats, 2^H with bits",
                lambda *a: (entropy(*a) / math.log(2)).exp(),
            ),
            Mistake(
                "the bases differ: exp goes with nats, 2^H with bits", lambda *a: 2 ** entropy(*a)
            ),
            Mistake(
                "exp of minus the entropy; the sign of p log p", lambda *a: (-entropy(*a)).exp()
            ),
            Mistake("that counts codes in use; weigh them", lambda c, k: float(len(c.unique()))),
            Mistake("that is the codebook's size; which codes occur?", lambda c, k: k),
            Mistake("all rows share one histogram; do not average over rows", by_rows),
            Mistake("count what occurs, without adding 1 to every code", smoothed),
            Mistake("divide the counts by the number of codes", lambda c, k: _unnormalised(c, k)),
        ],
        read=lambda result, case: as_number(result),
        otherwise="shares p_k over all codes of all rows, then exp(-sum p_k log p_k)",
    )


def _unnormalised(codes: Tensor, size: int) -> Tensor:
    counts = torch.bincount(codes.flatten(), minlength=size).double()
    return torch.special.entr(counts).sum().exp()
