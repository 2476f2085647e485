"""The checks of the RAE chapter tell right answers, in every form, from wrong ones."""

import numpy as np
import torch
from exercise_answers import *  # noqa: F403

from gentok.base.lightning_dit import LightningBlock
from gentok.book.checks import rae
from gentok.measure import count_flops
from gentok.nn.position import AxialRope2d

CHECKS = rae


def by_the_paper(t, m, n):
    alpha, theirs = (m / n) ** 0.5, 1 - t
    return 1 - alpha * theirs / (1 + (alpha - 1) * theirs)


def falling(x):
    return np.sort(np.linalg.eigvalsh(np.cov(x.numpy().T)))[::-1]


def by_svd(x, width):
    centred = x - x.mean(0)
    return torch.linalg.svdvals(centred)[width:].square().sum() / len(x) / x.shape[1]


def counted(tokens, dim):
    """What PyTorch counts in the library's block: two operations a multiply-add."""
    if dim > 100:  # a block as wide as that is not built here
        return tokens * (18 * dim**2 + 2 * tokens * dim)
    with torch.device("meta"):
        block = LightningBlock(dim, 1, AxialRope2d(tokens, 1, dim))
        x = torch.zeros(1, tokens, dim)
        return count_flops(block, x, torch.zeros(1, tokens, dim)) / 2


RIGHT = {
    "shift": [
        by_the_paper,
        lambda t, m, n: t / ((m / n) ** 0.5 + (1 - (m / n) ** 0.5) * t),
        lambda t, m, n: [float(by_the_paper(value, m, n)) for value in t],
        lambda t, m, n: by_the_paper(t.numpy(), m, n),
        lambda t, m, n: by_the_paper(t.numpy()[::-1], m, n)[::-1],
    ],
    "bound": [
        by_svd,
        lambda x, d: float(falling(x)[d:].sum() / x.shape[1]),
        lambda x, d: torch.linalg.eigvalsh(torch.cov(x.T))[: x.shape[1] - d].sum() / x.shape[1],
    ],
    "noisy": [
        lambda z, u, eps, tau: z + tau * u.abs()[:, None, None, None] * eps,
        lambda z, u, eps, tau: torch.stack(
            [a + tau * abs(float(s)) * e for a, s, e in zip(z, u, eps, strict=True)]
        ),
        lambda z, u, eps, tau: (
            z.numpy() + tau * np.abs(u.numpy()).reshape(-1, 1, 1, 1) * eps.numpy()
        ),
    ],
    "head_macs": [
        counted,
        lambda n, h: n * (18 * h * h + 2 * n * h),
        lambda n, h: torch.tensor(float(18 * n * h * h + 2 * n * n * h), dtype=torch.float64),
    ],
}

WRONG = {
    "shift": [
        (lambda t, m, n: by_the_paper(t, n, m), "pushes towards data"),
        (lambda t, m, n: by_the_paper(t, m**2, n**2), "alpha is the square root"),
        (lambda t, m, n: 1 - by_the_paper(t, m, n), ""),
        (lambda t, m, n: t * (n / m) ** 0.5, "so that 1 stays 1"),
        (lambda t, m, n: t, "as they were"),
        (lambda t, m, n: by_the_paper(t[:1], m, n).expand(len(t)), ""),
    ],
    "bound": [
        (lambda x, d: falling(x)[:d].sum() / x.shape[1], "LARGEST"),
        (lambda x, d: falling(x)[::-1][d:].sum() / x.shape[1], "d largest, not the d smallest"),
        (lambda x, d: falling(x)[d:].sum(), "divide by n"),
        (lambda x, d: falling(x)[d:].mean(), "not by n - d"),
        (lambda x, d: np.sqrt(falling(x)[d:]).sum() / x.shape[1], "not their roots"),
        (lambda x, d: (x.shape[1] - d) / x.shape[1], "all eigenvalues are 1"),
        (lambda x, d: x.var(0).sort(descending=True).values[d:].sum() / len(x.T), "variances"),
        (lambda x, d: falling(x)[d:], "one number"),
    ],
    "noisy": [
        (lambda z, u, eps, tau: z + tau * u[:, None, None, None] * eps, "not negative"),
        (lambda z, u, eps, tau: z + tau**2 * u.abs()[:, None, None, None] * eps, "deviation"),
        (lambda z, u, eps, tau: z + tau * eps, "differ from sample to sample"),
        (lambda z, u, eps, tau: z + tau * u.abs()[0] * eps, "that of the first"),
        (lambda z, u, eps, tau: tau * u.abs()[:, None, None, None] * eps, "add the noise"),
        (lambda z, u, eps, tau: z + tau * u.abs() * eps, ""),
        (lambda z, u, eps, tau: z, ""),
    ],
    "head_macs": [
        (lambda n, h: n * (12 * h * h + 2 * n * h) + 6 * h * h, "own modulation"),
        (lambda n, h: n * (12 * h * h + 2 * n * h), "modulation is missing"),
        (lambda n, h: 2 * n * (18 * h * h + 2 * n * h), "counts twice"),
        (lambda n, h: 18 * n * h * h, "products of attention are missing"),
        (lambda n, h: n * (18 * h * h + n * h), "multiplies twice"),
        (lambda n, h: 18 * h * h + 2 * n * h, "of one token"),
        (lambda n, h: n * (18 - 8 / 3) * h * h + 2 * n * n * h, "three matrices"),
    ],
}
