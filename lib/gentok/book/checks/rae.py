"""Checks of the RAE chapter's exercises."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gentok.book.checks import Mistake, Verdict, as_number, check
from gentok.process.flow import shift_times


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def shift(answer: Callable) -> Verdict:
    """``shift(t, m, n)``: the book's times (0 = noise) bent for m numbers of base n; t (B,)."""

    def bent(t: Tensor, s: float) -> Tensor:
        return shift_times(t, s)

    generator = _seeded()
    cases = [
        (torch.rand(rows, generator=generator, dtype=torch.float64), m, n)
        for rows, m, n in ((5, 16 * 4096, 4096), (7, 4096, 512), (4, 256, 1024))
    ]
    return check(
        answer,
        lambda t, m, n: bent(t, math.sqrt(n / m)),
        cases,
        [
            Mistake(
                "that pushes towards data: the paper's time is 1 - t",
                lambda t, m, n: bent(t, math.sqrt(m / n)),
            ),
            Mistake(
                "alpha is the square root of m / n (and mind the direction of time)",
                lambda t, m, n: bent(t, m / n),
            ),
            Mistake("alpha is the square root of m / n", lambda t, m, n: bent(t, n / m)),
            Mistake(
                "that is the paper's time; turn the result back by 1 - t'",
                lambda t, m, n: bent(1 - t, math.sqrt(m / n)),
            ),
            Mistake(
                "divide by 1 + (1 / alpha - 1) t, so that 1 stays 1",
                lambda t, m, n: t * math.sqrt(n / m),
            ),
            Mistake("the times come back as they were", lambda t, m, n: t),
        ],
        otherwise="put t_p = 1 - t into the paper's formula and solve for t'",
        tolerance=1e-6,
    )


def bound(answer: Callable) -> Verdict:
    """``bound(targets, width)``: least loss per number of a network of that width, one number.

    Targets (S, n) are samples of the velocity of one token.
    """

    def eigenvalues(targets: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(torch.cov(targets.T)).flip(0)  # falling

    def right(targets: Tensor, width: int) -> Tensor:
        return eigenvalues(targets)[width:].sum() / targets.shape[1]

    generator, cases = _seeded(1), []
    for n, width in ((4, 2), (6, 1), (5, 3)):
        turn = torch.linalg.qr(torch.randn(n, n, generator=generator)).Q
        scales = 0.5 + 2 * torch.rand(n, generator=generator)
        targets = torch.randn(4000, n, generator=generator) * scales @ turn
        cases.append((targets + 3 * torch.randn(n, generator=generator), width))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "the d LARGEST can be written down; sum the others",
                lambda x, d: eigenvalues(x)[:d].sum() / x.shape[1],
            ),
            Mistake(
                "leave out the d largest, not the d smallest: sort first",
                lambda x, d: eigenvalues(x).flip(0)[d:].sum() / x.shape[1],
            ),
            Mistake("per number: divide by n", lambda x, d: eigenvalues(x)[d:].sum()),
            Mistake("divide by n, not by n - d", lambda x, d: eigenvalues(x)[d:].mean()),
            Mistake(
                "eigenvalues of the covariance, not their roots",
                lambda x, d: eigenvalues(x)[d:].sqrt().sum() / x.shape[1],
            ),
            Mistake(
                "remove the mean first: a bias can write it",
                lambda x, d: torch.linalg.eigvalsh(x.T @ x / len(x)).flip(0)[d:].sum() / x.shape[1],
            ),
            Mistake(
                "variances of the channels are not enough: turn to the eigenvectors",
                lambda x, d: x.var(0).sort(descending=True).values[d:].sum() / x.shape[1],
            ),
            Mistake(
                "(n - d) / n holds if all eigenvalues are 1",
                lambda x, d: (x.shape[1] - d) / x.shape[1],
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="eigenvalues of the covariance, without the d largest, over n",
        tolerance=2e-3,  # a covariance over S instead of S - 1 is as right
    )


def noisy(answer: Callable) -> Verdict:
    """``noisy(z, u, eps, tau)``: tokens z (B, C, g, g) with noise; u (B,) and eps are N(0, 1)."""

    def per_sample(strength: Tensor) -> Tensor:
        return strength.view(-1, 1, 1, 1)

    generator, cases = _seeded(2), []
    for rows, tau in ((4, 0.8), (3, 0.4)):
        shape = (rows, 5, 2, 2)
        z, eps = (torch.randn(shape, generator=generator) for _ in range(2))
        cases.append((z, torch.randn(rows, generator=generator), eps, tau))
    return check(
        answer,
        lambda z, u, eps, tau: z + per_sample(tau * u.abs()) * eps,
        cases,
        [
            Mistake(
                "a strength is not negative: sigma = |N(0, tau^2)|",
                lambda z, u, eps, tau: z + per_sample(tau * u) * eps,
            ),
            Mistake(
                "tau is the standard deviation, tau^2 the variance: sigma = tau |u|",
                lambda z, u, eps, tau: z + per_sample(tau**2 * u.abs()) * eps,
            ),
            Mistake(
                "the strength must differ from sample to sample: use u",
                lambda z, u, eps, tau: z + tau * eps,
            ),
            Mistake(
                "one strength a sample, not that of the first for all",
                lambda z, u, eps, tau: z + tau * u[0].abs() * eps,
            ),
            Mistake("add the noise to z", lambda z, u, eps, tau: per_sample(tau * u.abs()) * eps),
            Mistake(
                "nothing is taken away from z: that is another process",
                lambda z, u, eps, tau: (
                    (1 - per_sample(tau * u.abs())) * z + per_sample(tau * u.abs()) * eps
                ),
            ),
        ],
        otherwise="z plus (tau |u|, one a sample) times eps",
    )


def head_macs(answer: Callable) -> Verdict:
    """``head_macs(tokens, dim)``: multiply-adds of one block of the wide head, one number."""

    def cost(tokens: int, dim: int, modulation: float = 6.0) -> float:
        return tokens * (4 * dim**2 + 2 * tokens * dim + 8 * dim**2 + modulation * dim**2)

    cases = [(64, 96), (256, 1536), (7, 12)]
    return check(
        answer,
        cost,
        cases,
        [
            Mistake(
                "each token has its own modulation: 6 dim^2 a token, not an image",
                lambda n, h: cost(n, h, 0) + 6 * h**2,
            ),
            Mistake("the modulation is missing: 6 dim^2 a token", lambda n, h: cost(n, h, 0)),
            Mistake("that counts twice: one multiply-add, not two", lambda n, h: 2 * cost(n, h)),
            Mistake(
                "the products of attention are missing: 2 N dim a token",
                lambda n, h: cost(n, h) - 2 * n**2 * h,
            ),
            Mistake(
                "attention multiplies twice: queries by keys, weights by values",
                lambda n, h: cost(n, h) - n**2 * h,
            ),
            Mistake(
                "SwiGLU has three matrices of dim x 8/3 dim: 8 dim^2",
                lambda n, h: cost(n, h) - n * 8 / 3 * h**2,
            ),
            Mistake("that is of one token; there are N", lambda n, h: cost(n, h) / n),
        ],
        read=lambda result, case: as_number(result),
        otherwise="add up: 4 dim^2 for attention's matrices, its products, SwiGLU, modulation",
        tolerance=1e-6,
    )
