"""The checks of Step-Video's chapter tell right answers from wrong ones."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from exercise_answers import *  # noqa: F403

from gentok.book.checks import step_video

CHECKS = step_video


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


def phases(x):
    """By loops over the phases of each block, the zero frame in front: (B, 8 C, ...)."""
    x = np.concatenate([np.zeros_like(x[:, :, :1].numpy()), x.numpy()], axis=2)
    every = [(a, b, d) for a in (0, 1) for b in (0, 1) for d in (0, 1)]
    return [x[:, c, a::2, b::2, d::2] for c in range(x.shape[1]) for a, b, d in every]


def averaged(x, channels):
    parts = phases(x)
    size = len(parts) // channels
    means = [np.mean(parts[i : i + size], axis=0) for i in range(0, len(parts), size)]
    return np.stack(means, axis=1)


def far_apart(x, channels):
    parts = phases(x)
    return np.stack([np.mean(parts[i::channels], axis=0) for i in range(channels)], axis=1)


def gradient(w, lose, ref_w, ref_l, beta):
    w = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    loss = -F.logsigmoid(beta * ((ref_w - w) - (ref_l - lose)))
    return torch.autograd.grad(loss, w)[0]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def times(num_steps, shift):
    out = []
    for i in range(num_steps + 1):
        level = 1 - i / num_steps
        out.append(1 - shift * level / (1 + (shift - 1) * level))
    return out


RIGHT = {
    "latent_frames": [
        frames,
        lambda n: torch.tensor(frames(n)),
        lambda n: float(frames(n)),
        lambda n: [frames(n)],
    ],
    "shortcut": [
        averaged,
        lambda x, channels: torch.from_numpy(averaged(x, channels)),
        lambda x, channels: averaged(x, channels).tolist(),
        lambda x, channels: averaged(x, channels).astype(np.float64),
    ],
    "winner_gradient": [
        gradient,
        lambda *a: float(gradient(*a)),
        lambda w, lose, rw, rl, b: b * sigmoid(-b * ((rw - w) - (rl - lose))),
    ],
    "bent_times": [
        times,
        lambda n, s: np.array(times(n, s)),
        lambda n, s: torch.tensor(times(n, s)),
        lambda n, s: [(i / n) / (i / n + s * (1 - i / n)) for i in range(n + 1)],
    ],
}
WRONG = {
    "latent_frames": [
        (lambda n: math.ceil(n / 8), "do not share"),
        (lambda n: 3 * (n // 17), "behind the last whole chunk"),
        (lambda n: 3 * (n // 17) + n % 17 // 8, "one frame alone"),
        (lambda n: 3 * -(-n // 17), "shorter than a chunk"),
        (lambda n: 5 * (n // 17), "three times"),
        (lambda n: n, "3 for each whole chunk"),
        (lambda n: [n, n], "one number"),
    ],
    "shortcut": [
        (lambda x, c: averaged(x, c) * (8 * x.shape[1] // c), "do not add"),
        (lambda x, c: averaged(x, 8 * x.shape[1]), "the unshuffle alone"),
        (far_apart, "neighbouring"),
        (lambda x, c: averaged(x.flip(2), c), "a zero frame in front"),
        (lambda x, c: averaged(x, c)[:, :, 1:], "shape"),
    ],
    "winner_gradient": [
        (lambda *a: -gradient(*a), "the sign"),
        (lambda *a: gradient(*a) / a[4], "factor beta"),
        (lambda w, x, rw, rx, b: b * sigmoid(b * (rw - w - rx + x)), "push *less*"),
        (lambda w, x, rw, rx, b: b * sigmoid(b * (w - x)), "its reference"),
        (lambda w, x, rw, rx, b: b * sigmoid(-(rw - w - rx + x)), "inside the sigmoid"),
        (lambda w, x, rw, rx, b: -math.log(sigmoid(b * (rw - w - rx + x))), "that is the loss"),
    ],
    "bent_times": [
        (lambda n, s: [1 - t for t in times(n, s)], "noise levels"),
        (lambda n, s: [s * i / n / (1 + (s - 1) * i / n) for i in range(n + 1)], "bent times"),
        (lambda n, s: times(n, s)[:-1], "1 is missing"),
        (lambda n, s: times(n, s)[1:], "0 is missing"),
        (lambda n, s: times(n - 1, s), "N + 1"),
        (lambda n, s: np.diff(times(n, s)), "add them up"),
        (lambda n, s: np.linspace(0, 1, n + 1), "without the shift"),
        (lambda n, s: [times(n, s)], "one row"),
    ],
}
