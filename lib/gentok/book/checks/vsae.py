"""Checks of the vSAE chapter's exercises."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gentok.book.checks import Arguments, Mistake, Unfit, Verdict, as_array, as_number, check
from gentok.interpret.vsae.model import VSAEConfig, build


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def kl(answer: Callable) -> Verdict:
    """``kl(mu, log_variance)``: KL to N(0, 1), summed over units, averaged over the batch."""

    def parts(mu: Tensor, log_variance: Tensor, one: float = 1.0) -> Tensor:
        return 0.5 * (mu.square() + log_variance.exp() - one - log_variance)

    def right(mu: Tensor, log_variance: Tensor) -> Tensor:
        normal = torch.distributions.Normal
        each = torch.distributions.kl_divergence(
            normal(mu, (log_variance / 2).exp()), normal(torch.zeros_like(mu), 1.0)
        )
        return each.sum(1).mean()

    noise = _seeded()
    shapes = ((5, 7), (3, 20), (9, 2))
    cases = [tuple(torch.randn(s, generator=noise) for _ in range(2)) for s in shapes]
    return check(
        answer,
        right,
        cases,
        [
            Mistake("sum over units; only the batch is averaged", lambda *a: parts(*a).mean()),
            Mistake("average over the batch", lambda *a: parts(*a).sum()),
            Mistake("the factor 1/2 is missing", lambda *a: 2 * right(*a)),
            Mistake("the sign is wrong: a KL is never negative", lambda *a: -right(*a)),
            Mistake("the -1 is missing: N(0, 1) costs 0", lambda *a: parts(*a, 0.0).sum(1).mean()),
            Mistake(
                "mu enters squared",
                lambda mu, v: (parts(mu, v) + 0.5 * (mu - mu.square())).sum(1).mean(),
            ),
            Mistake("log_variance is log sigma^2, not log sigma", lambda m, v: right(m, 2 * v)),
            Mistake(
                "log_variance is log sigma^2, not sigma^2", lambda m, v: right(m, v.exp().log1p())
            ),
            Mistake(
                "that is the KL in the other direction",
                lambda mu, v: 0.5 * ((1 + mu.square()) / v.exp() - 1 + v).sum(1).mean(),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="1/2 sum (mu^2 + exp(log_variance) - 1 - log_variance), then the batch mean",
    )


def rescale(answer: Callable) -> Verdict:
    """``rescale(sae, c)``: in place; activations divided by c, every reconstruction unchanged."""
    x = torch.randn(40, 8, generator=_seeded())

    def fresh() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sae = build(VSAEConfig(dim=8, num_features=32, k=4)).eval()
            with torch.no_grad():
                sae.encoder.bias.normal_(0, 0.05)
                sae.bias.normal_()
        return sae

    def changed(change: Callable) -> Callable:
        @torch.no_grad()
        def numbers(c: float) -> Tensor:
            sae = fresh()
            change(sae, c)
            return torch.cat([sae.encode(x).flatten(), sae(x).flatten()])

        return numbers

    def scaled(dictionary: float, weight: float, bias: float, offset: float = 0) -> Callable:
        def change(sae: Any, c: float) -> None:
            sae.dictionary.data *= c**dictionary
            sae.encoder.weight.data *= c**weight
            sae.encoder.bias.data *= c**bias
            sae.bias.data *= c**offset

        return changed(change)

    if not callable(answer):
        return check(answer, lambda: 0, [()])
    return check(
        changed(answer),
        scaled(1, -1, -1),
        [(3.0,), (0.5,), (1.7,)],
        [
            Mistake("nothing changed; work on the parameters' .data", scaled(0, 0, 0)),
            Mistake("other way round: activations must shrink by c", scaled(-1, 1, 1)),
            Mistake("activations must be divided by c: the encoder's bias, too", scaled(1, -1, 0)),
            Mistake(
                "the reconstruction changed: lengthen the dictionary's rows", scaled(0, -1, -1)
            ),
            Mistake("the reconstruction changed: leave sae.bias alone", scaled(1, -1, -1, 1)),
            Mistake("the encoder must shrink by c, or activations stay", scaled(1, 0, 0)),
        ],
        otherwise="features must be divided by c, and sae(x) must stay",
    )


def living(answer: Callable) -> Verdict:
    """``living(features)``: share of F features that fire at least once on M tokens, (M, F)."""

    def right(f: Tensor) -> Tensor:
        return (f != 0).any(0).double().mean()

    noise, cases = _seeded(), []
    for shape, share in (((30, 20), 0.05), ((12, 50), 0.1), ((40, 9), 0.02)):
        f = torch.randn(shape, generator=noise) * (torch.rand(shape, generator=noise) < share)
        f[:, 0] = -f[:, 0].abs()  # fires negatively, or not at all
        f[0, 0] = -1.0
        f[1, 1], f[2:, 1], f[0, 1] = 1.0, 0.0, -1.0  # its values add up to 0
        cases.append((f,))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "a feature that fires negatively fires, too",
                lambda f: (f > 0).any(0).double().mean(),
            ),
            Mistake(
                "values of both signs cancel in a sum: ask for any that is not 0",
                lambda f: (f.sum(0) != 0).double().mean(),
            ),
            Mistake(
                "the released code counts sums above 0; negative firing is lost",
                lambda f: (f.sum(0) > 0).double().mean(),
            ),
            Mistake(
                "that is the share of tokens with a feature; ask along the other axis",
                lambda f: (f != 0).any(1).double().mean(),
            ),
            Mistake("that is the density of all entries", lambda f: (f != 0).double().mean()),
            Mistake("that is the number; divide by F", lambda f: (f != 0).any(0).sum()),
            Mistake("that is the share of dead features", lambda f: 1 - right(f)),
            Mistake("one firing is enough", lambda f: (f != 0).all(0).double().mean()),
        ],
        read=lambda result, case: as_number(result),
        otherwise="a feature lives if it is not 0 on at least one token",
    )


def name(answer: Callable) -> Verdict:
    """``name(fires, truth)``: precision and recall of bool (M,) and (M,), two numbers."""

    def ratios(fires: Tensor, truth: Tensor) -> tuple[float, float]:
        both = float((fires & truth).sum())
        return both / float(fires.sum()), both / float(truth.sum())

    noise, cases = _seeded(), []
    for size, one, two in ((60, 0.3, 0.6), (200, 0.5, 0.2), (35, 0.2, 0.4)):
        fires = torch.rand(size, generator=noise) < one
        truth = torch.where(
            torch.rand(size, generator=noise) < 0.6, fires, torch.rand(size, generator=noise) < two
        )
        cases.append((fires, truth))

    def read(result: Any, case: Arguments) -> Tensor:
        values = as_array(result)
        if values.shape != (2,):
            raise Unfit(
                f"return precision and recall, two numbers, not shape {tuple(values.shape)}"
            )
        return values

    def accuracy(fires: Tensor, truth: Tensor) -> tuple[float, float]:
        right = float((fires == truth).double().mean())
        return right, right

    return check(
        answer,
        ratios,
        cases,
        [
            Mistake("the order is precision, recall", lambda f, t: ratios(f, t)[::-1]),
            Mistake("that is accuracy: most places are a no, which is cheap", accuracy),
            Mistake(
                "divide by how often it fires, and by how often it is true",
                lambda f, t: 2 * (float((f & t).double().mean()),),
            ),
            Mistake(
                "an F1 is one number; precision and recall are two", lambda f, t: 2 * (_f1(f, t),)
            ),
        ],
        read=read,
        otherwise="both / fires and both / true, where both counts places with both",
    )


def _f1(fires: Tensor, truth: Tensor) -> float:
    return 2 * float((fires & truth).sum()) / float(fires.sum() + truth.sum())
