"""The checks of the vSAE chapter tell right answers, in every form, from wrong ones."""

import re

import numpy as np
import pytest
import torch

from gentok.book.checks import vsae


def boom(*arguments):
    raise ZeroDivisionError("division by zero")


def nothing(*arguments): ...


def closed(mu, log_variance):
    return 0.5 * (mu**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()


def summed_over_rows(mu, log_variance):
    return (0.5 * (mu**2 + log_variance.exp() - 1 - log_variance)).sum() / len(mu)


def all_weights(sae, c):
    with torch.no_grad():
        sae.dictionary.mul_(c)
        sae.encoder.weight.div_(c)
        sae.encoder.bias.div_(c)


def by_data(sae, c):
    sae.dictionary.data = sae.dictionary.data * c
    for parameter in sae.encoder.parameters():
        parameter.data = parameter.data / c


def forgets_bias(sae, c):
    sae.dictionary.data *= c
    sae.encoder.weight.data /= c


def ratios(fires, truth):
    both = (fires & truth).sum()
    return both / fires.sum(), both / truth.sum()


RIGHT = [
    (vsae.kl, closed),
    (vsae.kl, summed_over_rows),
    (vsae.kl, lambda m, v: float(closed(m, v))),
    (vsae.rescale, all_weights),
    (vsae.rescale, by_data),
    (vsae.living, lambda f: (f != 0).any(0).float().mean()),
    (vsae.living, lambda f: float((f.abs().sum(0) > 0).sum()) / f.shape[1]),
    (vsae.living, lambda f: np.mean(np.abs(f.numpy()).max(0) > 0)),
    (vsae.name, ratios),
    (vsae.name, lambda f, t: [float(t[f].double().mean()), float(f[t].double().mean())]),
    (vsae.name, lambda f, t: torch.stack(ratios(f, t))),
]
WRONG = [
    (vsae.kl, lambda m, v: closed(m, v) / m.shape[1], "sum over units"),
    (vsae.kl, lambda m, v: closed(m, v) * len(m), "average over the batch"),
    (vsae.kl, lambda m, v: 2 * closed(m, v), "1/2"),
    (vsae.kl, lambda m, v: -closed(m, v), "never negative"),
    (vsae.kl, lambda m, v: closed(m, 2 * v), "not log sigma"),
    (vsae.kl, lambda m, v: 0.5 * (m**2).sum(1).mean(), "1/2 sum"),
    (vsae.kl, lambda m, v: m, "one number"),
    (vsae.rescale, lambda sae, c: None, "nothing changed"),
    (vsae.rescale, forgets_bias, "bias, too"),
    (vsae.rescale, lambda sae, c: all_weights(sae, 1 / c), "other way round"),
    (
        vsae.rescale,
        lambda sae, c: setattr(sae.dictionary, "data", c * sae.dictionary.data),
        "shrink",
    ),
    (vsae.living, lambda f: (f > 0).any(0).float().mean(), "fires negatively"),
    (vsae.living, lambda f: (f.sum(0) > 0).float().mean(), "released code|negatively"),
    (vsae.living, lambda f: (f.sum(0) != 0).float().mean(), "cancel"),
    (vsae.living, lambda f: (f != 0).any(1).float().mean(), "other axis"),
    (vsae.living, lambda f: (f != 0).any(0).sum(), "divide by F"),
    (vsae.living, lambda f: 1 - (f != 0).any(0).float().mean(), "dead features"),
    (vsae.living, lambda f: (f != 0).float().mean(), "density"),
    (vsae.name, lambda f, t: ratios(f, t)[::-1], "order is precision, recall"),
    (vsae.name, lambda f, t: ((f == t).float().mean(),) * 2, "accuracy"),
    (vsae.name, lambda f, t: ratios(f, t)[0], "two numbers"),
    (vsae.name, lambda f, t: (0.5, 0.5), "both / fires"),
]
CHECKS = sorted({check for check, _ in RIGHT}, key=lambda check: check.__name__)


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_in_every_form(check, answer):
    assert str(check(answer)) == "correct"


@pytest.mark.parametrize(("check", "answer", "says"), WRONG)
def test_wrong_answers_are_told_their_mistake(check, answer, says):
    verdict = check(answer)
    assert not verdict.correct and re.search(says, verdict.mistake), verdict


@pytest.mark.parametrize("check", CHECKS)
def test_whatever_an_answer_does_the_student_reads_one_sentence(check):
    for answer in (boom, 7, None, "text"):
        verdict = check(answer)
        assert not verdict.correct and "\n" not in verdict.mistake
    if check is not vsae.rescale:  # which changes its argument and returns nothing
        assert "returned nothing" in check(nothing).mistake


@pytest.mark.parametrize("check", CHECKS)
def test_checks_do_not_move_the_pages_random_numbers(check):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    check(boom)
    assert torch.equal(torch.rand(3), wanted)
