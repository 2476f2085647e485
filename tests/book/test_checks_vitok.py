"""The checks of the ViTok chapter tell right answers, in every form, from wrong ones."""

import math

import numpy as np
import torch
from exercise_answers import *  # noqa: F403

from gentok.book.checks import vitok

CHECKS = vitok


def count(frames, side, tubelet, patch, channels):
    return (frames // tubelet) * (side // patch) * (side // patch) * channels


def kl(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()


def by_torch(mean, logvar):
    normal = torch.distributions.Normal
    prior = normal(torch.zeros_like(mean), torch.ones_like(mean))
    return torch.distributions.kl_divergence(normal(mean, (logvar / 2).exp()), prior).mean()


def turn(pairs, n):
    d = 2 * len(pairs)
    angle = n * 10000.0 ** (-2 * torch.arange(len(pairs)) / d)
    a, b = pairs.unbind(1)
    return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], 1)


def by_numpy(pairs, n):
    d = 2 * len(pairs)
    z = pairs.numpy()[:, 0] + 1j * pairs.numpy()[:, 1]
    z = z * np.exp(1j * n * 10000.0 ** (-2 * np.arange(len(z)) / d))
    return np.stack([z.real, z.imag], 1)


def rise(step, start, ramp, largest):
    return largest * min(max((step - start) / ramp, 0), 1)


RIGHT = {
    "floats": [
        count,
        lambda t, s, q, p, c: torch.tensor(count(t, s, q, p, c)),
        lambda t, s, q, p, c: t * s * s * c / (q * p * p),
        lambda *a: [count(*a)],
    ],
    "mean_kl": [
        kl,
        by_torch,
        lambda m, v: float(kl(m, v)),
        lambda m, v: kl(m.flatten(1), v.flatten(1)).numpy(),
    ],
    "turned": [
        turn,
        by_numpy,
        lambda x, n: turn(x, n).tolist(),
        lambda x, n: torch.view_as_real(
            torch.view_as_complex(x.contiguous())
            * torch.polar(torch.ones(len(x)), n * 10000.0 ** (-torch.arange(len(x)) / len(x)))
        ),
    ],
    "rising": [
        rise,
        lambda s, a, r, m: torch.tensor(rise(s, a, r, m)),
        lambda s, a, r, m: float(np.clip((s - a) / r, 0, 1) * m),
        lambda s, a, r, m: m * sorted([0, (s - a) / r, 1])[1],
    ],
}

WRONG = {
    "floats": [
        (lambda *a: 2 * count(*a), "variances do not count"),
        (lambda t, s, q, p, c: count(t, s, q, p, 1), "tokens L"),
        (lambda t, s, q, p, c: t // q * (s // p) * c, "two directions"),
        (lambda t, s, q, p, c: t * (s // p) ** 2 * c, "tubelets, too"),
        (lambda t, s, q, p, c: 3 * t * s * s / count(t, s, q, p, c), "compression factor"),
        (lambda *a: math.inf, "NaN or infinity"),
        (lambda *a: [1, 2], "one number"),
    ],
    "mean_kl": [
        (lambda m, v: kl(m, v) * m[0].numel(), "sum over a code's numbers"),
        (lambda m, v: kl(m, v) * m.numel(), "over the batch"),
        (lambda m, v: 2 * kl(m, v), "1/2"),
        (lambda m, v: kl(m, 2 * v), "standard deviation"),
        (lambda m, v: kl(m, v) + 0.5, "-1 is missing"),
        (lambda m, v: -kl(m, v), "not negative"),
        (lambda m, v: m, "one number"),
    ],
    "turned": [
        (lambda x, n: turn(x, -n), "other way"),
        (
            lambda x, n: by_numpy(torch.cat([x, torch.zeros_like(x)]), n)[: len(x)],
            "exponent",
        ),
        (lambda x, n: x * 1.0, "nothing is turned"),
        (lambda x, n: turn(x, n) + x, "keeps lengths"),
        (lambda x, n: turn(x, n)[:2], "shape"),
    ],
    "rising": [
        (lambda s, a, r, m: m * max((s - a) / r, 0), "after the ramp"),
        (lambda s, a, r, m: m * min((s - a) / r, 1), "not negative"),
        (lambda s, a, r, m: m * min(s / r, 1) if s >= a else 0, "not at step 0"),
        (lambda s, a, r, m: m if s >= a else 0.0, "switched on"),
        (lambda s, a, r, m: m * min(max((s - a) / (r - a), 0), 1), "length of the rise"),
        (lambda s, a, r, m: [m, m], "one number"),
    ],
}
