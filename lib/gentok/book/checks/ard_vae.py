"""Checks of the ARD-VAE chapter's exercises."""

from collections.abc import Callable

import torch
from torch import Tensor

from gentok.book.checks import Mistake, Verdict, as_number, check
from gentok.process.ard import kl_to_axes
from gentok.process.relevance import relevant_axes


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def axis_variances(answer: Callable) -> Verdict:
    """``axis_variances(mean, std, noise)``: sigma_l^2 of encoded pictures (N, L) each; (L,)."""

    def right(mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        return (mean + std * noise).square().mean(0)

    generator, cases = _seeded(), []
    for rows, axes in ((7, 3), (12, 5)):
        mean = torch.randn(rows, axes, generator=generator) + 0.5
        std = torch.rand(rows, axes, generator=generator) + 0.3
        cases.append((mean, std, torch.randn(rows, axes, generator=generator)))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "those are the means alone: an axis that nobody uses would get 0",
                lambda m, s, e: m.square().mean(0),
            ),
            Mistake(
                "that is the variance about the mean; the prior is centred at 0",
                lambda m, s, e: (m + s * e).var(0, correction=0),
            ),
            Mistake(
                "that is the variance about the mean, by N - 1; take the second moment about 0",
                lambda m, s, e: (m + s * e).var(0),
            ),
            Mistake(
                "that is the expectation over noise; take the samples that were drawn",
                lambda m, s, e: (m.square() + s.square()).mean(0),
            ),
            Mistake(
                "a mean over pictures, not a sum",
                lambda m, s, e: (m + s * e).square().sum(0),
            ),
            Mistake(
                "that is b alone, half of the sum of squares; divide by a = N / 2",
                lambda m, s, e: (m + s * e).square().sum(0) / 2,
            ),
            Mistake(
                "that is the standard deviation; square it",
                lambda m, s, e: (m + s * e).square().mean(0).sqrt(),
            ),
            Mistake(
                "one variance an axis: average over pictures, not over axes",
                lambda m, s, e: (m + s * e).square().mean(1),
            ),
        ],
        otherwise="draw z = mean + std * noise, square it, average over pictures",
    )


def dead_cost(answer: Callable) -> Verdict:
    """``dead_cost(s2, sigma2)``: KL in nats of N(0, s2) to N(0, sigma2), entry by entry."""

    def right(s2: Tensor, sigma2: Tensor) -> Tensor:
        return kl_to_axes(torch.zeros_like(s2), s2.log(), sigma2)

    generator = _seeded(1)
    cases = [tuple(torch.rand(n, generator=generator) + 0.2 for _ in range(2)) for n in (4, 6)]
    return check(
        answer,
        right,
        cases,
        [
            Mistake("the factor 1/2 is missing", lambda s, p: 2 * right(s, p)),
            Mistake(
                "the logarithm of the prior's variance is missing: this is the KL of a plain VAE",
                lambda s, p: 0.5 * (s / p - 1 - s.log()),
            ),
            Mistake(
                "that is the printed KL of the authors' code: log sigma^2, not sigma^2",
                lambda s, p: 0.5 * (p - s.log() - 1 + s / p),
            ),
            Mistake(
                "the two are swapped: KL of the posterior to the prior", lambda s, p: right(p, s)
            ),
            Mistake("the -1 is missing", lambda s, p: right(s, p) + 0.5),
            Mistake("one number an axis, not their sum", lambda s, p: right(s, p).sum()),
        ],
        otherwise="put mu = 0 into the KL term: it is 0 where s2 = sigma2",
    )


def student_variance(answer: Callable) -> Verdict:
    """``student_variance(n, sigma2)``: the variance of the predictive prior, a number."""

    def right(n: int, sigma2: float) -> float:
        return sigma2 * n / (n - 2)  # scale^2 df / (df - 2), df = 2a = n

    return check(
        answer,
        right,
        [(10, 2.0), (50, 0.3), (4000, 1.7)],
        [
            Mistake("that is its squared scale, not its variance", lambda n, v: v),
            Mistake("there are 2a = N degrees of freedom, not a", lambda n, v: v * n / (n - 4)),
            Mistake(
                "there are 2a = N degrees of freedom, not N - 1", lambda n, v: v * (n - 1) / (n - 3)
            ),
            Mistake("that is the standard deviation", lambda n, v: right(n, v) ** 0.5),
        ],
        read=lambda result, case: as_number(result),
        otherwise="a Student-t has the variance scale^2 nu / (nu - 2)",
    )


def count_relevant(answer: Callable) -> Verdict:
    """``count_relevant(weights, variances, share)``: how many axes exceed a share, a number."""

    def right(weights: Tensor, variances: Tensor, share: float) -> int:
        return len(relevant_axes(weights * variances, share))

    def prefix(scores: Tensor, share: float) -> int:
        return len(relevant_axes(scores, share))

    generator, cases = _seeded(2), []
    for axes, share in ((6, 0.8), (9, 0.95), (24, 0.99), (5, 0.5)):
        weights = torch.rand(axes, generator=generator).pow(4)
        variances = torch.rand(axes, generator=generator).pow(3) * 4 + 0.01
        cases.append((weights, variances, share))
    exact = torch.tensor([4.0, 2.0, 1.0, 1.0]), torch.ones(4), 0.75
    return check(
        answer,
        right,
        [*cases, exact],
        [
            Mistake("weigh each variance by the Jacobian", lambda w, v, s: prefix(v, s)),
            Mistake("the Jacobian alone forgets the variance", lambda w, v, s: prefix(w, s)),
            Mistake("sort the scores, largest first", _unsorted),
            Mistake(
                "the share must be exceeded: at exactly 75 % one more axis is needed",
                lambda w, v, s: _reached(w * v, s),
            ),
            Mistake(
                "that counts axes before the share is exceeded; the one that exceeds it belongs in",
                lambda w, v, s: right(w, v, s) - 1,
            ),
            Mistake(
                "that counts axes above a share of the largest score; sum up sorted shares",
                lambda w, v, s: int(((w * v) > (1 - s) * (w * v).max()).sum()),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="multiply, sort, add up shares until they exceed the wanted one",
    )


def _unsorted(weights: Tensor, variances: Tensor, share: float) -> int:
    scores = weights * variances
    return int((scores.cumsum(0) / scores.sum() <= share).sum()) + 1


def _reached(scores: Tensor, share: float) -> int:
    ordered = scores.sort(descending=True).values
    return int((ordered.cumsum(0) / ordered.sum() < share).sum()) + 1
