"""The checks of the Step-Video chapter tell right answers, in every form, from wrong ones."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gentok.book.checks import step_video as checks


def boom(*arguments):
    raise ZeroDivisionError("division by zero")


def nothing(*arguments): ...


# --- right answers, by other ways than the library's ----------------------------------------------


def frames(n):
    """Follow the chunks: 17 -> 9 -> 5 -> 3, and the same halvings for what is left."""
    latents = 0
    while n > 0:
        length = min(n, 17)
        n -= length
        for _ in range(3):
            length = (length + 1) // 2
        latents += length
    return latents


def averaged(x, channels):
    """By loops over the phases of each block, the zero frame in front."""
    x = np.concatenate([np.zeros_like(x[:, :, :1].numpy()), x.numpy()], axis=2)
    phases = [
        x[:, c, a::2, b::2, d::2]
        for c in range(x.shape[1])
        for a in (0, 1)
        for b in (0, 1)
        for d in (0, 1)
    ]
    size = len(phases) // channels
    return np.stack(
        [np.mean(phases[i : i + size], axis=0) for i in range(0, len(phases), size)], axis=1
    )


def gradient(w, l, ref_w, ref_l, beta):  # noqa: E741
    w = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    loss = -F.logsigmoid(beta * ((ref_w - w) - (ref_l - l)))
    return torch.autograd.grad(loss, w)[0]


def times(num_steps, shift):
    out = []
    for i in range(num_steps + 1):
        level = 1 - i / num_steps
        out.append(1 - shift * level / (1 + (shift - 1) * level))
    return out


def bend(velocities, noise, sample):
    chord = sample - noise
    return sum(F.mse_loss(v, chord).item() for v in velocities) / len(velocities)


RIGHT = [
    (checks.latent_frames, frames),
    (checks.latent_frames, lambda n: torch.tensor(frames(n))),
    (checks.shortcut, averaged),
    (checks.shortcut, lambda x, channels: torch.from_numpy(averaged(x, channels))),
    (checks.winner_gradient, gradient),
    (checks.winner_gradient, lambda *a: float(gradient(*a))),
    (checks.bent_times, times),
    (checks.bent_times, lambda n, s: np.array(times(n, s))),
    (checks.path_bend, bend),
    (checks.path_bend, lambda v, a, b: ((v - b + a) ** 2).mean()),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers(check, answer):
    assert check(answer).correct, check(answer)


# --- wrong ones -----------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


WRONG = [
    (checks.latent_frames, lambda n: math.ceil(n / 8), "do not share"),
    (checks.latent_frames, lambda n: 3 * (n // 17), "behind the last whole chunk"),
    (checks.latent_frames, lambda n: 3 * (n // 17) + n % 17 // 8, "one frame alone"),
    (checks.latent_frames, lambda n: 3 * -(-n // 17), "shorter than a chunk"),
    (checks.latent_frames, lambda n: n, "3 for each whole chunk"),
    (checks.latent_frames, lambda n: [n, n], "one number"),
    (checks.shortcut, lambda x, c: averaged(x, c) * (8 * x.shape[1] // c), "do not add"),
    (checks.shortcut, lambda x, c: averaged(x, 8 * x.shape[1]), "the unshuffle alone"),
    (checks.shortcut, lambda x, c: averaged(x.flip(2), c), "a zero frame in front"),
    (checks.shortcut, lambda x, c: averaged(x, c)[:, :, 1:], "the shape is"),
    (checks.winner_gradient, lambda *a: -gradient(*a), "the sign"),
    (checks.winner_gradient, lambda *a: gradient(*a) / a[4], "factor beta"),
    (
        checks.winner_gradient,
        lambda w, x, rw, rx, b: b * sigmoid(b * (rw - w - rx + x)),
        "push *less*",
    ),
    (checks.winner_gradient, lambda w, x, rw, rx, b: b * sigmoid(b * (w - x)), "its reference"),
    (checks.bent_times, lambda n, s: [1 - t for t in times(n, s)], "noise levels"),
    (
        checks.bent_times,
        lambda n, s: [s * i / n / (1 + (s - 1) * i / n) for i in range(n + 1)],
        "bent times",
    ),
    (checks.bent_times, lambda n, s: times(n, s)[::-1], "noise levels|from 0 to 1"),
    (checks.bent_times, lambda n, s: times(n, s)[:-1], "1 is missing"),
    (checks.bent_times, lambda n, s: times(n, s)[1:], "0 is missing"),
    (checks.bent_times, lambda n, s: [times(n, s)], "one row"),
    (checks.path_bend, lambda v, a, b: ((v - a + b) ** 2).mean(), "from noise to sample"),
    (checks.path_bend, lambda v, a, b: (v - b + a).mean() ** 2, "square before"),
    (checks.path_bend, lambda v, a, b: (v - b + a).abs().mean(), "absolute"),
    (checks.path_bend, lambda v, a, b: (v**2).mean(), "not from zero"),
    *[
        (check, boom, "stopped with ZeroDivisionError")
        for check in (checks.latent_frames, checks.shortcut, checks.bent_times)
    ],
    *[
        (check, nothing, "returned nothing")
        for check in (checks.winner_gradient, checks.path_bend, checks.shortcut)
    ],
]


@pytest.mark.parametrize(("check", "answer", "says"), WRONG)
def test_wrong_answers_are_named(check, answer, says):
    verdict = check(answer)
    assert not verdict.correct
    assert any(words in verdict.mistake for words in says.split("|")), verdict
