"""The checks of the chapter on accountable chat tell right answers from wrong ones."""

import numpy as np
import torch
from exercise_answers import *  # noqa: F403

from gentok.book.checks import atvc

CHECKS = atvc


def soft(logits, u, tau):
    return ((logits - torch.log(-torch.log(u))) / tau).softmax(-1)


def by_numpy(logits, u, tau):
    score = np.exp((logits.numpy() - np.log(-np.log(u.numpy()))) / tau)
    return score / score.sum(1, keepdims=True)


def told(order, codes, words):
    return [0] * order + [1] * codes + [1] * codes + [0] * words


def loss(image, answer, obeyed, said):
    return 0.2 * image[obeyed].mean() + 0.8 * answer[said].mean()


def summed(image, answer, obeyed, said):
    of_image = (image * obeyed[:, None]).sum() / (obeyed.sum() * image.shape[1])
    return float((of_image / 4 + (answer * said).sum() / said.sum()) / 1.25)


RIGHT = {
    "soft_choice": [soft, by_numpy, lambda *a: soft(*a).tolist()],
    "told_by": [
        told,
        lambda *a: torch.tensor(told(*a)),
        lambda *a: np.array(told(*a), dtype=bool),
        lambda o, c, w: [o <= i < o + 2 * c for i in range(o + 2 * c + w)],
    ],
    "chat_loss": [loss, summed, lambda *a: torch.tensor([summed(*a)])],
}

WRONG = {
    "soft_choice": [
        (lambda x, u, t: (x / t - torch.log(-torch.log(u))).softmax(-1), "divided by the temp"),
        (lambda x, u, t: ((x + torch.log(-torch.log(u))) / t).softmax(-1), "minus the logarithm"),
        (lambda x, u, t: ((x + u) / t).softmax(-1), "uniform noise"),
        (lambda x, u, t: (x / t).softmax(-1), "without noise"),
        (lambda x, u, t: ((x - torch.log(-torch.log(u))) / t).softmax(0), "last axis"),
        (lambda x, u, t: ((x - torch.log(-torch.log(u))) * t).softmax(-1), "divide by it"),
        (lambda *a: soft(*a)[0], "shape"),
    ],
    "told_by": [
        (lambda o, c, w: [0] * (o + 1) + [1] * 2 * c + [0] * (w - 1), "one place earlier"),
        (lambda o, c, w: [0] * (o - 1) + [1] * 2 * c + [0] * (w + 1), "too early"),
        (lambda o, c, w: [0] * o + [1] * 2 * c + [0] * (w + 1), "one output less"),
        (lambda o, c, w: [0] * o + [1] * (2 * c + w), "answer's words begin"),
        (lambda o, c, w: [0] * (o + c) + [1] * c + [0] * w, "the source, too"),
    ],
    "chat_loss": [
        (lambda m, a, y, s: 0.2 * m.mean() + 0.8 * a[s].mean(), "no picture to learn"),
        (lambda m, a, y, s: 0.2 * m[y].mean() + 0.8 * a.mean(), "padding"),
        (lambda m, a, y, s: 0.2 * (m * y[:, None]).mean() + 0.8 * (a * s).mean(), "not count"),
        (lambda m, a, y, s: 0.2 * m[y].mean() + 0.8 * a[s & y[:, None]].mean(), "refusals"),
        (lambda m, a, y, s: torch.cat([m[y].flatten(), a[s]]).mean(), "not one over all"),
        (lambda m, a, y, s: (m[y].mean() + a[s].mean()) / 2, "weight w"),
        (lambda m, a, y, s: m[y].mean() / 4 + a[s].mean(), "divide by 1 + w"),
        (lambda m, a, y, s: m[y].mean(1), "one number"),
    ],
}
