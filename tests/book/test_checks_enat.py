"""The checks of the ENAT chapter tell right answers, in every form, from wrong ones."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from exercise_answers import *  # noqa: F403
from exercise_answers import boom

from gentok.base.masked.groups import Groups
from gentok.base.masked.unmask import mask_schedule
from gentok.book import checks
from gentok.book.checks import enat
from gentok.measure import code_usage

CHECKS = enat
ELSE = {("groups", "not a str"): "three groups"}


def differences(counts):
    return [a - b for a, b in pairwise(counts)]


def hidden(n, t, shift=1):
    return [n] + [math.floor(n * math.cos(math.pi / 2 * (s + shift) / t)) for s in range(t)]


def entropy(codes, size=None):
    p = torch.bincount(codes.flatten()) / codes.numel()
    return -(p * p.clamp_min(1e-12).log()).sum()


def nan_entropy(codes, size):
    p = torch.bincount(codes.flatten(), minlength=size) / codes.numel()
    return (-(p * p.log()).sum()).exp()


def macs(dim, depth, new, old):
    encoder = 12 * dim**2 * new + 2 * dim**2 * old + 2 * new * (new + old) * dim
    return depth * encoder + 8 * dim**2 * old


def attention(q, k, v, kc, vc):
    k, v = torch.cat([kc, k], dim=-2), torch.cat([vc, v], dim=-2)
    return F.scaled_dot_product_attention(q, k, v)


def looped(q, k, v, kc, vc):
    """Without a batched product: every row and head by itself."""
    out = torch.zeros_like(q)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            keys, values = torch.cat([k[b, h], kc[b, h]]), torch.cat([v[b, h], vc[b, h]])
            weight = torch.softmax(q[b, h] @ keys.T / math.sqrt(q.shape[-1]), dim=1)
            out[b, h] = weight @ values
    return out


def split_softmax(q, k, v, kc, vc):
    """One softmax computed in two parts, as memory-saving kernels do."""
    d = q.shape[-1] ** -0.5
    own, other = (q @ k.mT * d).exp(), (q @ kc.mT * d).exp()
    total = own.sum(-1, keepdim=True) + other.sum(-1, keepdim=True)
    return (own @ v + other @ vc) / total


def positions(where):
    return torch.stack([row.nonzero()[:, 0] for row in where])


def in_place(mask, previous):
    masked = mask.clone()
    mask.logical_not_()
    return mask & previous, ~previous, masked


def first_row(function):
    """A batch bug: every row gets the first row's answer."""

    def wrong(*arguments):
        out = function(*arguments)
        return (
            [p[:1].expand_as(p) for p in out] if isinstance(out, tuple) else out[:1].expand_as(out)
        )

    return wrong


def three(mask, previous):
    return ~mask & previous, ~previous, mask


def guidance(given, free, scale, step, steps):
    return given + scale * step / steps * (given - free)


RIGHT = {
    "revealed": [
        lambda n, t: differences(mask_schedule(n, t)),
        lambda n, t: differences(hidden(n, t)),
        lambda n, t: tuple(differences(hidden(n, t))),
        lambda n, t: torch.tensor(differences(hidden(n, t))),
        lambda n, t: -np.diff(hidden(n, t)),
        lambda n, t: [torch.tensor(x) for x in differences(hidden(n, t))],
        lambda n, t: (a - b for a, b in pairwise(hidden(n, t))),
        lambda n, t: map(float, differences(hidden(n, t))),
    ],
    "step_macs": [
        macs,
        lambda *a: float(macs(*a)),
        lambda *a: torch.tensor(macs(*a)),
        lambda *a: np.int64(macs(*a)),
        lambda *a: [macs(*a)],
        lambda d, depth, new, old: (
            sum(
                12 * d * d * new + 2 * d * d * old + 2 * new * (new + old) * d for _ in range(depth)
            )
            + 8 * d * d * old
        ),
    ],
    "groups": [
        three,
        lambda m, p: list(three(m, p)),
        lambda m, p: tuple(map(positions, three(m, p))),
        lambda m, p: tuple(positions(g).flip(1) for g in three(m, p)),
        lambda m, p: Groups.from_masks(m, p),
        lambda m, p: SimpleNamespace(masked=m, old=~p, new=~m & p),
        lambda m, p: {"masked": m, "old": ~p, "new": ~m & p},
        lambda m, p: tuple(g.numpy() for g in three(m, p)),
        lambda m, p: tuple(g.int() for g in three(m, p)),
        lambda m, p: tuple(g.tolist() for g in three(m, p)),
        lambda m, p: (m ^ p, p.logical_not(), m),
        in_place,
    ],
    "guided": [
        guidance,
        lambda c, u, s, t, n: F.log_softmax(guidance(c, u, s, t, n), dim=-1),
        lambda c, u, s, t, n: u + (1 + s * t / n) * (c - u),
        lambda c, u, s, t, n: torch.lerp(u, c, 1 + s * t / n),
        lambda c, u, s, t, n: guidance(c, u, s, t, n).numpy(),
        lambda c, u, s, t, n: guidance(c.log_softmax(-1), u.log_softmax(-1), s, t, n),
        lambda c, u, s, t, n: guidance(c.double(), u.double(), s, t, n).requires_grad_(),
    ],
    "sc_attention": [
        attention,
        looped,
        split_softmax,
        lambda q, k, v, kc, vc: attention(q, kc, vc, k, v),
        lambda *a: attention(*(x.double() for x in a)),
        lambda *a: attention(*a).numpy(),
        lambda q, k, v, kc, vc: torch.einsum(
            "bhnm,bhmd->bhnd",
            torch.einsum("bhnd,bhmd->bhnm", q / q.shape[-1] ** 0.5, torch.cat([k, kc], 2)).softmax(
                3
            ),
            torch.cat([v, vc], 2),
        ),
    ],
    "perplexity": [
        lambda codes, size: entropy(codes).exp(),
        lambda codes, size: math.exp(entropy(codes)),
        lambda codes, size: 2 ** (entropy(codes) / math.log(2)),
        lambda codes, size: code_usage(codes, size)["perplexity"],
        lambda codes, size: np.float32(math.exp(entropy(codes))),
        lambda codes, size: entropy(codes).exp()[None],
        lambda codes, size: torch.distributions.Categorical(
            torch.bincount(codes.flatten(), minlength=size).float()
        ).perplexity(),
    ],
}

WRONG = {
    "revealed": [
        (lambda n, t: [n - c for c in hidden(n, t)[1:]], "take differences"),
        (lambda n, t: hidden(n, t)[1:], "newly revealed"),
        (lambda n, t: differences(hidden(n, t))[::-1], "reversed"),
        (lambda n, t: differences(hidden(n, t, shift=0)), "one step off"),
        (lambda n, t: [n // t] * t, ""),
        (lambda n, t: differences([n - n * s // t for s in range(t + 1)]), "cosine"),
        (
            lambda n, t: differences(
                [n] + [round(n * math.cos(math.pi / 2 * (s + 1) / t)) for s in range(t)]
            ),
            "round down",
        ),
        (
            lambda n, t: -torch.diff(
                (n * torch.cos(math.pi / 2 * torch.arange(t + 1) / t)).floor()
            ),
            "cos(pi/2)",
        ),
        (lambda n, t: [5, 15, 24, 31, 39, 45, 48, 49], "shape"),  # the page's own numbers
        (lambda n, t: differences(hidden(n, t))[:-1], "shape"),
        (lambda n, t: n, "shape"),
        (lambda n, t: {"a": 1}, "not a dict"),
    ],
    "step_macs": [
        (lambda d, L, n, o: macs(d, L, n, o) - 8 * d * d * o, "not free"),
        (lambda d, L, n, o: macs(d, L, n, o) + 8 * (L - 1) * d * d * o, "once a step"),
        (lambda d, L, n, o: macs(d, L, n, o) - 2 * L * d * d * o, "anew"),
        (lambda d, L, n, o: macs(d, L, n, o) - 2 * L * n * o * d, "attend to old"),
        (lambda d, L, n, o: L * (12 * d * d * (n + o) + 2 * (n + o) ** 2 * d), "without reuse"),
        (lambda *a: 2 * macs(*a), "FLOPs"),
        (lambda d, L, n, o: macs(L, d, n, o), "12 D^2"),
        (lambda d, L, n, o: macs(d, L, o, n), "12 D^2"),
        (lambda *a: [macs(*a)] * 3, "one number"),
        (lambda *a: str(macs(*a)), "not a str"),
        (lambda *a: float("nan"), "NaN"),
    ],
    "groups": [
        (lambda m, p: (~p, ~m & p, m), "order"),
        (lambda m, p: (m, ~m & p, ~p), "order"),
        (lambda m, p: (m, ~p, ~m & p), "order"),
        (lambda m, p: three(~m, ~p), "True means masked"),
        (lambda m, p: (~m, ~p, m), "visible before"),
        (lambda m, p: (m & p, ~p, m), "visible now"),
        (lambda m, p: (~m & p, ~m, m), "visible before"),
        (first_row(three), "rows only [0]"),
        (lambda m, p: tuple(positions(g[:1]).expand(4, -1) for g in three(m, p)), "rows only [0]"),
        (lambda m, p: tuple(g.T for g in three(m, p)), "B = 4"),
        (lambda m, p: three(m, p)[:2], "three groups"),
        (lambda m, p: m, "three groups"),
        (lambda m, p: tuple(positions(g) + 1 for g in three(m, p)), ""),
        (lambda m, p: tuple(g.nonzero() for g in three(m, p)), "B = 4"),
        (lambda m, p: ("new", "old", "masked"), "not a str"),
    ],
    "guided": [
        (lambda c, u, s, t, n: guidance(c, u, s, t + 1, n), "lags"),
        (lambda c, u, s, t, n: guidance(c, u, s, n, n), "grow"),
        (lambda c, u, s, t, n: guidance(u, c, s, t, n), "swapped"),
        (lambda c, u, s, t, n: c + s * t / n * (u - c), "given - free"),
        (lambda c, u, s, t, n: u + s * t / n * (c - u), "counted from given"),
        (lambda c, u, s, t, n: guidance(c, u, s, t, n - 1), "divide by T"),
        (lambda c, u, s, t, n: c, "first step"),
        (lambda c, u, s, t, n: guidance(c, u, s, t, n).softmax(-1), "probabilities"),
        (lambda c, u, s, t, n: guidance(c, u, s, t, n).mT, "axes are swapped"),
        (lambda c, u, s, t, n: guidance(c, u, s, t, n).argmax(-1), "return logits"),
        (lambda c, u, s, t, n: guidance(c, u, s, t, n)[0], "return logits"),
        (first_row(guidance), "rows only [0]"),
        (lambda c, u, s, t, n: guidance(c, u, s, t, n).softmax(1).log(), "s (given - free)"),
    ],
    "sc_attention": [
        (lambda q, k, v, kc, vc: attention(q, k, v, k[:, :, :0], v[:, :, :0]), "left out"),
        (lambda q, k, v, kc, vc: attention(q, kc, vc, k[:, :, :0], v[:, :, :0]), "themselves"),
        (
            lambda q, k, v, kc, vc: (
                F.scaled_dot_product_attention(q, k, v) + F.scaled_dot_product_attention(q, kc, vc)
            ),
            "two softmaxes",
        ),
        (lambda q, *rest: attention(q * q.shape[-1] ** 0.5, *rest), "1/sqrt(d) is missing"),
        (lambda q, *rest: attention(q * q.shape[-1] ** -0.5, *rest), "not 1/d"),
        (lambda q, *rest: attention(q * q.shape[1] ** -0.5, *rest), "one head"),
        (lambda q, k, v, kc, vc: attention(q, k, vc, kc, v) if k.shape == kc.shape else
         attention(q, k, v, kc, vc) * 0, ""),
        (lambda *a: first_row(attention)(*a), "rows only [0]"),
        (lambda *a: attention(*a).transpose(1, 2), "axes are swapped"),
        (lambda *a: attention(*a).transpose(1, 2).flatten(2), "shape"),
        (lambda *a: attention(*a) if a[3].shape[2] else boom(), "division by zero"),
        (lambda *a: attention(*a) if a[3].shape[2] else 0 * a[0], "empty context"),
        (lambda *a: attention(*a) * float("nan"), "NaN"),
    ],
    "perplexity": [
        (entropy, "take exp"),
        (lambda c, k: entropy(c) / math.log(2), "take 2^H"),
        (lambda c, k: (entropy(c) / math.log(2)).exp(), "bases"),
        (lambda c, k: 2 ** entropy(c), "bases"),
        (lambda c, k: (-entropy(c)).exp(), "sign"),
        (lambda c, k: len(set(c.flatten().tolist())), "in use"),
        (lambda c, k: k, "codebook's size"),
        (lambda c, k: sum(entropy(row).exp() for row in c) / len(c), "average over rows"),
        (lambda c, k: torch.stack([entropy(row).exp() for row in c]), "one number"),
        (lambda c, k: entropy(c[:1]).exp(), "all rows"),
        (nan_entropy, "NaN"),
        (lambda c, k: "7", "not a str"),
        (lambda c, k: entropy(c).exp() + 1, "shares"),
    ],
}  # fmt: skip


def test_a_mistake_that_has_no_answer_is_passed_over():
    verdict = checks.check(
        lambda x: x + 1, lambda x: x, [(1,)], [checks.Mistake("never", boom)], otherwise="look"
    )
    assert verdict == checks.Verdict(False, "look")
