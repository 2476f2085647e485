"""The checks of the MatFormer chapter tell right answers, in every form, from wrong ones."""

import numpy as np
import pytest
import torch

from gentok.book import checks
from gentok.book.checks import matformer


def boom(*arguments):
    raise ZeroDivisionError("division by zero")


def nothing(*arguments): ...


def cut(w1, b1, w2, b2, m):
    return w1[:m], b1[:m], w2[:, :m], b2


def permuted(w1, b1, w2, b2, m):
    order = torch.arange(len(b1)).flip(0)
    return w1[order][:m], b1[order][:m], w2[:, order][:, :m], b2


def cost(ratios):
    return sum(4 + 2 * r for r in ratios) / (4 + 2 * ratios[-1])


def outcome(p, q):
    left = (p - q).clamp_min(0)
    return torch.minimum(p, q).sum(), left / left.sum()


def looped(p, q):
    kept = sum(float(b) * min(1.0, float(a / b)) for a, b in zip(p, q, strict=True))
    left = [max(float(a - b), 0.0) for a, b in zip(p, q, strict=True)]
    return kept, [part / sum(left) for part in left]


def series(alpha, k):
    return sum(alpha**i for i in range(k + 1))


def closed(alpha, k):
    return k + 1 if alpha == 1 else (1 - alpha ** (k + 1)) / (1 - alpha)


def walked(alpha, k):
    total, reached = 1.0, 1.0
    for _ in range(k):
        reached *= alpha
        total += reached
    return total


RIGHT = {
    "cut": [
        cut,
        lambda *a: list(cut(*a)),
        lambda *a: [part.numpy() for part in cut(*a)],
        lambda *a: tuple(part.tolist() for part in cut(*a)),
        lambda *a: dict(zip(("w1", "b1", "w2", "b2"), cut(*a), strict=True)),
        lambda w1, b1, w2, b2, m: (w1[0:m, :], b1[0:m], w2.T[:m].T, b2.clone()),
        lambda w1, b1, w2, b2, m: (w1.narrow(0, 0, m), b1.split(m)[0], w2.narrow(1, 0, m), b2),
    ],
    "joint_cost": [
        cost,
        lambda r: torch.tensor(cost(r)),
        lambda r: np.float64(cost(r)),
        lambda r: [cost(r)],
        lambda r: sum((4 + 2 * x) / (4 + 2 * r[-1]) for x in r),
        lambda r: (2 * len(r) + sum(r)) / (2 + r[-1]),
    ],
    "outcome": [
        outcome,
        lambda p, q: list(outcome(p, q)),
        lambda p, q: (float(outcome(p, q)[0]), outcome(p, q)[1].numpy()),
        lambda p, q: dict(zip(("chance", "residual"), outcome(p, q), strict=True)),
        looped,
        lambda p, q: (1 - (p - q).abs().sum() / 2, (p - q).relu() / (p - q).relu().sum()),
    ],
    "tokens_per_pass": [
        series,
        closed,
        walked,
        lambda a, k: torch.tensor(series(a, k)),
        lambda a, k: np.polyval([1] * (k + 1), a),
    ],
}
WRONG = {
    "cut": [
        lambda w1, b1, w2, b2, m: (w1[-m:], b1[-m:], w2[:, -m:], b2),
        lambda w1, b1, w2, b2, m: (w1[:m], b1[:m], w2[:, -m:], b2),
        lambda w1, b1, w2, b2, m: (w1[:m], b1[:m], w2[:m], b2),
        lambda w1, b1, w2, b2, m: (w1[:m], b1[:m], w2[:, :m], b2[:m]),
        lambda w1, b1, w2, b2, m: (w1[:, :m], b1[:m], w2[:, :m], b2),
        lambda w1, b1, w2, b2, m: (w1[:m], b1, w2[:, :m], b2),
        lambda w1, b1, w2, b2, m: (w1[:m], b1[:m], w2[:, :m].T, b2),
        lambda w1, b1, w2, b2, m: (w1[:m], b1[:m], w2[:, :m], 0 * b2),
        lambda w1, b1, w2, b2, m: (w1[:m], b1[:m], w2[:, :m] * len(b1) / m, b2),
        lambda w1, b1, w2, b2, m: (w1[:m], b1[:m], w2[:, :m]),
        lambda *a: cut(*a)[0],
        permuted,
    ],
    "joint_cost": [
        lambda r: (4 + 2 * sum(r)) / (4 + 2 * r[-1]),
        lambda r: sum(r) / r[-1],
        lambda r: len(r),
        lambda r: cost(r) / len(r),
        lambda r: sum(4 + 2 * x for x in r),
        lambda r: sum(4 + x for x in r) / (4 + r[-1]),
        lambda r: 31 / 12,
        lambda r: [4 + 2 * x for x in r],
        lambda r: cost(sorted(r, reverse=True)),
    ],
    "outcome": [
        lambda p, q: ((p * q).sum(), outcome(p, q)[1]),
        lambda p, q: ((p / q).clamp(max=1).mean(), outcome(p, q)[1]),
        lambda p, q: (1 - outcome(p, q)[0], outcome(p, q)[1]),
        lambda p, q: (outcome(p, q)[0], p),
        lambda p, q: (outcome(p, q)[0], (p - q).clamp_min(0)),
        lambda p, q: (outcome(p, q)[0], outcome(q, p)[1]),
        lambda p, q: (outcome(p, q)[0], (p - q).abs() / (p - q).abs().sum()),
        lambda p, q: (outcome(p, q)[0], (p - q).softmax(-1)),
        lambda p, q: (outcome(p, q)[1], outcome(p, q)[0]),
        lambda p, q: outcome(p, q)[0],
        lambda p, q: (torch.minimum(p, q), outcome(p, q)[1]),
        lambda p, q: (0.6, torch.tensor([0.75, 0.25, 0.0])),
    ],
    "tokens_per_pass": [
        lambda a, k: series(a, k) - 1,
        lambda a, k: 1 + k * a,
        lambda a, k: series(a, k - 1),
        lambda a, k: series(a, k + 1),
        lambda a, k: series(1 - a, k),
        lambda a, k: (k + 1) * a**k,
        lambda a, k: (1 - a ** (k + 1)) / (1 - a),  # alpha may be 1
        lambda a, k: 1 / (1 - a) if a < 1 else k + 1,
        lambda a, k: k + 1,
    ],
}
KINDS = [boom, nothing, lambda *a: ..., lambda *a: "text", lambda *a: float("nan"), lambda *a: {}]
EVERY = list(RIGHT)


def test_every_check_is_here():
    public = {
        name
        for name, value in vars(matformer).items()
        if callable(value)
        and getattr(value, "__module__", "") == matformer.__name__
        and not name.startswith("_")
    }
    assert public == set(EVERY) == set(WRONG)


@pytest.mark.parametrize("name", EVERY)
def test_right_answers_in_every_form(name):
    for number, answer in enumerate(RIGHT[name]):
        assert repr(getattr(matformer, name)(answer)) == "correct", f"answer {number}"


@pytest.mark.parametrize("name", EVERY)
def test_wrong_answers_get_one_sentence(name):
    for number, answer in enumerate(WRONG[name] + KINDS):
        verdict = getattr(matformer, name)(answer)
        assert isinstance(verdict, checks.Verdict) and not verdict.correct, f"answer {number}"
        assert 10 < len(verdict.mistake) < 300 and "\n" not in verdict.mistake


@pytest.mark.parametrize("name", EVERY)
def test_the_call_instead_of_the_function(name):
    assert "leave out the call" in repr(getattr(matformer, name)(3.0))


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("cut", WRONG["cut"][0], "not the last"),
        ("cut", WRONG["cut"][2], "columns of w2"),
        ("cut", WRONG["cut"][3], "leave it whole"),
        ("cut", WRONG["cut"][4], "rows of w1"),
        ("joint_cost", WRONG["joint_cost"][0], "attention runs once for every"),
        ("joint_cost", WRONG["joint_cost"][3], "sampling"),
        ("outcome", WRONG["outcome"][1], "weigh"),
        ("outcome", WRONG["outcome"][3], "counts twice"),
        ("outcome", WRONG["outcome"][4], "sums to 1"),
        ("tokens_per_pass", WRONG["tokens_per_pass"][0], "one more"),
        ("tokens_per_pass", WRONG["tokens_per_pass"][6], "stopped with ZeroDivisionError"),
    ],
)
def test_the_likely_mistake_is_named(name, answer, says):
    assert says in repr(getattr(matformer, name)(answer))
