"""The checks of the FA-VAE chapter tell right answers, in every form, from wrong ones."""

import math

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F

from gentok.base.foundation import distance_matrix_loss
from gentok.book import checks
from gentok.book.checks import fa_vae
from gentok.nn.wavelet import haar2d


def boom(*arguments):
    raise ZeroDivisionError("division by zero")


def nothing(*arguments): ...


def blocks(x):
    return [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]


def by_slices(x):
    a, b, c, d = blocks(x)
    high = [a + b - c - d, a - b + c - d, a - b - c + d]
    return (a + b + c + d) / 2, torch.cat(high, 1) / 2


def by_pywavelets(x):
    low, (lh, hl, hh) = pywt.dwt2(x.numpy(), "haar")
    return low, np.concatenate([lh, hl, hh], 1)


def by_matrix(x):
    signs = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 2
    out = torch.einsum("kp,pbchw->kbchw", signs, torch.stack(blocks(x)))
    return out[0], torch.cat(list(out[1:]), 1)


def swapped(x):
    low, high = haar2d(x)
    lh, hl, hh = high.chunk(3, 1)
    return low, torch.cat([hl, lh, hh], 1)


def halves(x):
    a, b, c, d = blocks(x)
    return (a + b + c + d) / 2, torch.cat([a - c, a - b, 2 * a * d], 1)


def first_row(function):
    """A batch bug: every row gets the first row's answer."""

    def wrong(*arguments):
        out = function(*arguments)
        if isinstance(out, tuple):
            return tuple(part[:1].expand_as(part) for part in out)
        return out[:1].expand_as(out)

    return wrong


def middle(x, loss):
    return x.mean(1) if loss == "l2" else x.sort(1).values[:, x.shape[1] // 2]


def searched(x, loss):
    """The constant among many that costs least."""
    grid = torch.cat([x, x.mean(1, keepdim=True)], 1)  # (B, n + 1) candidates
    error = (x[:, None] - grid[..., None]).abs() ** (1 if loss == "l1" else 2)
    return grid.gather(1, error.mean(-1).argmin(1, keepdim=True))[:, 0]


def high(x, y):
    return (haar2d(x)[1] - haar2d(y.clamp(-1, 1))[1]).square().mean()


def matrix(z, f, margin):
    z, f = F.normalize(z, dim=-1), F.normalize(f, dim=-1)
    return torch.relu((z @ z.mT - f @ f.mT).abs() - margin).mean()


def looped(z, f, margin):
    total = 0.0
    for a, b in zip(z, f, strict=True):
        for i in range(len(a)):
            for j in range(len(a)):
                gap = F.cosine_similarity(a[i], a[j], 0) - F.cosine_similarity(b[i], b[j], 0)
                total += max(abs(float(gap)) - margin, 0.0) / len(a) ** 2
    return total / len(z)


def cap_of(cap, shape):
    return cap / math.prod(shape)


RIGHT = {
    "haar": [
        haar2d,
        by_slices,
        by_pywavelets,
        by_matrix,
        lambda x: list(by_slices(x)),
        lambda x: tuple(part.tolist() for part in by_slices(x)),
        lambda x: by_slices(x.double()),
    ],
    "best_answer": [
        middle,
        searched,
        lambda x, k: middle(x, k).numpy(),
        lambda x, k: middle(x, k).tolist(),
        lambda x, k: [row.mean() if k == "l2" else row.median() for row in x],
    ],
    "high_loss": [
        high,
        lambda x, y: F.mse_loss(haar2d(x)[1], haar2d(y.clamp(-1, 1))[1]),
        lambda x, y: float(high(x, y)),
        lambda x, y: haar2d(x - y.clip(-1, 1))[1].pow(2).mean().item(),
    ],
    "distance_matrix": [
        matrix,
        looped,
        distance_matrix_loss,
        lambda z, f, m: float(matrix(z, f, m)),
        lambda z, f, m: torch.stack(
            [matrix(a[None], b[None], m) for a, b in zip(z, f, strict=True)]
        ).mean(),
    ],
    "mean_cap": [
        cap_of,
        lambda cap, shape: torch.tensor(cap) / torch.tensor(shape).prod(),
        lambda cap, shape: cap / torch.zeros(shape).numel(),
        lambda cap, shape: [cap / shape[0] / shape[1] / shape[2]],
    ],
}

WRONG = {
    "haar": [
        (lambda x: tuple(p / 2 for p in haar2d(x)), "averaging Haar"),
        (lambda x: tuple(2 * p for p in haar2d(x)), "factor 1/2 is missing"),
        (lambda x: tuple(p * 2**0.5 for p in haar2d(x)), "not by its root"),
        (swapped, "swapped"),
        (lambda x: (haar2d(x)[0], -haar2d(x)[1]), "wrong sign"),
        (halves, ""),
        (
            lambda x: (
                haar2d(x)[0],
                haar2d(x)[1].unflatten(1, (3, -1)).transpose(1, 2).flatten(1, 2),
            ),
            "band by band",
        ),
        (lambda x: (haar2d(x)[0], torch.cat([p - q for p, q in _against_first(x)], 1)), "all four"),
        (first_row(haar2d), "rows only [0]"),
        (lambda x: haar2d(x)[0], "two tensors"),
        (lambda x: haar2d(x)[::-1], "low has the shape"),
        (lambda x: (haar2d(x)[0], haar2d(x)[1].flatten(2)), "high has the shape"),
        (lambda x: ("low", "high"), "not a str"),
    ],
    "best_answer": [
        (lambda x, k: middle(x, "l1" if k == "l2" else "l2"), "swapped"),
        (lambda x, k: x.mean(1), "mean in both"),
        (lambda x, k: x.median(1).values, "median in both"),
        (lambda x, k: torch.zeros(len(x)), "need not be 0"),
        (lambda x, k: middle(x.reshape(1, -1), k).expand(len(x)), "one answer a row"),
        (lambda x, k: x.median(1) if k == "l1" else x.mean(1), ""),
        (lambda x, k: (x - middle(x, k)[:, None]).abs().pow(1 + (k == "l2")).mean(1), "least loss"),
        (lambda x, k: middle(x, k)[:, None], "shape"),
        (lambda x, k: middle(x, k)[0], "shape"),
        (lambda x, k: first_row(middle)(x, k), "first row"),
    ],
    "high_loss": [
        (lambda x, y: (haar2d(x)[1] - haar2d(y)[1]).square().mean(), "clamp the reconstruction"),
        (lambda x, y: high(x, y) / 4, "averaging"),
        (lambda x, y: F.mse_loss(x, y.clamp(-1, 1)), "all bands"),
        (lambda x, y: F.mse_loss(haar2d(x)[0], haar2d(y.clamp(-1, 1))[0]), "low band"),
        (lambda x, y: F.l1_loss(haar2d(x)[1], haar2d(y.clamp(-1, 1))[1]), "absolute"),
        (lambda x, y: high(x, y) * haar2d(x)[1].numel(), "not a sum"),
        (lambda x, y: F.mse_loss(haar2d(x)[1], haar2d(y)[1].clamp(-1, 1)), "not its bands"),
        (lambda x, y: (haar2d(x)[1] - haar2d(y.clamp(-1, 1))[1]).square(), "one number"),
        (lambda x, y: float("nan"), "NaN"),
    ],
    "distance_matrix": [
        (lambda z, f, m: _relu(z, f, m, lambda gap, m: (gap - m).relu().mean()), "absolute value"),
        (lambda z, f, m: _relu(z, f, m, lambda gap, m: (gap.abs().mean() - m).relu()), "each pair"),
        (lambda z, f, m: (z @ z.mT - f @ f.mT).abs().sub(m).relu().mean(), "unit length"),
        (lambda z, f, m: matrix(z, f, 0.0), "margin is missing"),
        (lambda z, f, m: _relu(z, f, m, lambda gap, m: (gap**2 - m).relu().mean()), "squares"),
        (lambda z, f, m: matrix(z, f, m) * 3 * 36, "not the sum"),
        (lambda z, f, m: matrix(z, f, m) * 3, "over pictures"),
        (lambda z, f, m: matrix(z.flatten(0, 1)[None], f.flatten(0, 1)[None], m), "one picture"),
        (lambda z, f, m: matrix(z, f, m) * 6 / 5, "all N x N"),
        (lambda z, f, m: matrix(z[:1], f[:1], m), ""),
        (lambda z, f, m: {"loss": matrix(z, f, m)}, "not a dict"),
    ],
    "mean_cap": [
        (lambda cap, shape: cap, "both losses are summed"),
        (lambda cap, shape: cap * math.prod(shape), "not multiply"),
        (lambda cap, shape: cap / (shape[1] * shape[2]), "channels"),
        (lambda cap, shape: cap / shape[1], "not over H"),
        (lambda cap, shape: cap / math.sqrt(math.prod(shape)), "root"),
        (lambda cap, shape: 0.05, ""),
        (lambda cap, shape: shape, "one number"),
    ],
}


def _against_first(x):
    a, b, c, d = blocks(x)
    return (a, c), (a, b), (a, d)


def _relu(z, f, margin, end):
    z, f = F.normalize(z, dim=-1), F.normalize(f, dim=-1)
    return end(z @ z.mT - f @ f.mT, margin)


ALWAYS_WRONG = [(boom, "division by zero"), (nothing, "returned nothing"), (3, "function itself")]
cases = [(name, answer) for name, answers in RIGHT.items() for answer in answers]
wrongs = [
    (name, answer, says)
    for name, answers in WRONG.items()
    for answer, says in [*answers, *ALWAYS_WRONG]
]


@pytest.mark.parametrize(("name", "answer"), cases)
def test_right_answers(name, answer):
    state = torch.get_rng_state()
    assert repr(getattr(fa_vae, name)(answer)) == "correct"
    assert torch.equal(torch.get_rng_state(), state), "a check moved the page's random numbers"


@pytest.mark.parametrize(("name", "answer", "says"), wrongs)
def test_wrong_answers(name, answer, says):
    verdict = getattr(fa_vae, name)(answer)
    assert isinstance(verdict, checks.Verdict) and not verdict.correct
    assert says in repr(verdict), repr(verdict)
