"""The checks of the ARD-VAE chapter tell right answers, in every form, from wrong ones."""

import math

import numpy as np
import torch
from exercise_answers import *  # noqa: F403

from gentok.book.checks import ard_vae
from gentok.process.ard import gamma_posterior

CHECKS = ard_vae


def moment(mean, std, noise):
    return (mean + std * noise).pow(2).mean(0)


def by_gamma(mean, std, noise):
    a, b = gamma_posterior(mean + std * noise)
    return b / a


def kl(s2, sigma2):
    return 0.5 * (sigma2.log() - s2.log() - 1 + s2 / sigma2)


def by_torch(s2, sigma2):
    normal = torch.distributions.Normal
    return torch.distributions.kl_divergence(
        normal(torch.zeros_like(s2), s2.sqrt()), normal(torch.zeros_like(s2), sigma2.sqrt())
    )


def counted(weights, variances, share):
    scores, total, count = sorted((weights * variances).tolist(), reverse=True), 0.0, 0
    while total <= share * sum(scores):
        total += scores[count]
        count += 1
    return count


def by_numpy(weights, variances, share):
    scores = np.sort((weights * variances).numpy())[::-1].astype(float)
    return np.searchsorted(np.cumsum(scores) / scores.sum(), share, side="right") + 1


RIGHT = {
    "axis_variances": [
        moment,
        by_gamma,
        lambda m, s, e: moment(m, s, e).numpy(),
        lambda m, s, e: moment(m, s, e).tolist(),
        lambda m, s, e: [moment(m[:, i], s[:, i], e[:, i]) for i in range(m.shape[1])],
        lambda m, s, e: torch.einsum("nl,nl->l", m + s * e, m + s * e) / len(m),
    ],
    "dead_cost": [
        kl,
        by_torch,
        lambda s, p: kl(s, p).numpy(),
        lambda s, p: [0.5 * (math.log(b / a) - 1 + a / b) for a, b in zip(s, p, strict=True)],
    ],
    "student_variance": [
        lambda n, v: v * n / (n - 2),
        lambda n, v: torch.tensor(v * n / (n - 2)),
        lambda n, v: [v / (1 - 2 / n)],
        lambda n, v: torch.distributions.StudentT(float(n), 0.0, v**0.5).variance,
    ],
    "count_relevant": [
        counted,
        by_numpy,
        lambda w, v, s: float(counted(w, v, s)),
        lambda w, v, s: torch.tensor([counted(w, v, s)]),
    ],
}

WRONG = {
    "axis_variances": [
        (lambda m, s, e: m.square().mean(0), "means alone"),
        (lambda m, s, e: (m + s * e).var(0, correction=0), "about the mean"),
        (lambda m, s, e: (m + s * e).var(0), "N - 1"),
        (lambda m, s, e: (m**2 + s**2).mean(0), "expectation"),
        (lambda m, s, e: (m + s * e).square().sum(0), "not a sum"),
        (lambda m, s, e: (m + s * e).square().sum(0) / 2, "b alone"),
        (lambda m, s, e: moment(m, s, e).sqrt(), "standard deviation"),
        (lambda m, s, e: (m + s * e).square().mean(1), "not over axes"),
        (lambda m, s, e: moment(m, s, e).sum(), "shape"),
        (lambda m, s, e: "1", "not a str"),
    ],
    "dead_cost": [
        (lambda s, p: 2 * kl(s, p), "1/2"),
        (lambda s, p: 0.5 * (s / p - 1 - s.log()), "plain VAE"),
        (lambda s, p: 0.5 * (p - s.log() - 1 + s / p), "printed KL"),
        (lambda s, p: kl(p, s), "swapped"),
        (lambda s, p: kl(s, p) + 0.5, "-1 is missing"),
        (lambda s, p: kl(s, p).sum(), "not their sum"),
        (lambda s, p: kl(s, p)[:1], "shape"),
    ],
    "student_variance": [
        (lambda n, v: v, "squared scale"),
        (lambda n, v: v * n / (n - 4), "2a = N"),
        (lambda n, v: v * (n - 1) / (n - 3), "not N - 1"),
        (lambda n, v: (v * n / (n - 2)) ** 0.5, "standard deviation"),
        (lambda n, v: math.inf, "NaN or infinity"),
        (lambda n, v: [v, v], "one number"),
    ],
    "count_relevant": [
        (lambda w, v, s: counted(torch.ones_like(w), v, s), "by the Jacobian"),
        (lambda w, v, s: counted(w, torch.ones_like(v), s), "forgets the variance"),
        (
            lambda w, v, s: int(((w * v).cumsum(0) / (w * v).sum() <= s).sum()) + 1,
            "largest first",
        ),
        (lambda w, v, s: counted(w, v, s - 1e-6), "exceeded"),
        (lambda w, v, s: counted(w, v, s) - 1, "belongs in"),
        (lambda w, v, s: int((w * v > (1 - s) * (w * v).max()).sum()), "sorted shares"),
        (lambda w, v, s: w * v, "one number"),
    ],
}
