"""Checks of the exercises of the chapter on accountable chat."""

from collections.abc import Callable

import torch
from torch import Tensor

from gentok.book.checks import Mistake, Verdict, as_number, check


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def soft_choice(answer: Callable) -> Verdict:
    """``soft_choice(logits, u, tau)``: weights of the codes, (N, K), of noise u in (0, 1)."""

    def noise(u: Tensor) -> Tensor:
        return -torch.log(-torch.log(u))

    generator, cases = _seeded(), []
    for places, codes, tau in ((3, 5, 0.7), (2, 4, 0.3), (4, 3, 1.6)):
        logits = torch.randn(places, codes, generator=generator)
        u = 0.05 + 0.9 * torch.rand(places, codes, generator=generator)
        cases.append((logits, u, tau))
    return check(
        answer,
        lambda logits, u, tau: ((logits + noise(u)) / tau).softmax(-1),
        cases,
        [
            Mistake(
                "the noise is divided by the temperature, too",
                lambda logits, u, tau: (logits / tau + noise(u)).softmax(-1),
            ),
            Mistake(
                "Gumbel noise is minus the logarithm of minus the logarithm of u",
                lambda logits, u, tau: ((logits - noise(u)) / tau).softmax(-1),
            ),
            Mistake(
                "that is uniform noise; Gumbel's is -log(-log u)",
                lambda logits, u, tau: ((logits + u) / tau).softmax(-1),
            ),
            Mistake(
                "without noise the choice is always the same",
                lambda logits, u, tau: (logits / tau).softmax(-1),
            ),
            Mistake(
                "the codes of one place compete: the softmax runs over the last axis",
                lambda logits, u, tau: ((logits + noise(u)) / tau).softmax(0),
            ),
            Mistake(
                "a small temperature sharpens: divide by it",
                lambda logits, u, tau: ((logits + noise(u)) * tau).softmax(-1),
            ),
        ],
        otherwise="softmax over the codes of (logits - log(-log u)) / tau",
    )


def told_by(answer: Callable) -> Verdict:
    """``told_by(order, codes, words)``: for each output of the stream, 1 if it tells a code.

    The inputs are a start, an order, two pictures of ``codes`` places each, an answer of ``words``;
    the last input has no output. A list of ``order + 2 codes + words`` numbers.
    """

    def right(order: int, codes: int, words: int) -> Tensor:
        return torch.tensor([0] * order + [1] * 2 * codes + [0] * words)

    return check(
        answer,
        right,
        [(3, 4, 2), (5, 2, 6), (1, 3, 3)],
        [
            Mistake(
                "output i tells input i + 1: the flip comes one place earlier",
                lambda order, codes, words: torch.tensor(
                    [0] * (order + 1) + [1] * 2 * codes + [0] * (words - 1)
                ),
            ),
            Mistake(
                "one place too early: the start tells the first word",
                lambda order, codes, words: torch.tensor(
                    [0] * (order - 1) + [1] * 2 * codes + [0] * (words + 1)
                ),
            ),
            Mistake(
                "the last input tells nothing: one output less than inputs",
                lambda order, codes, words: torch.tensor(
                    [0] * order + [1] * 2 * codes + [0] * (words + 1)
                ),
            ),
            Mistake(
                "behind the second picture the answer's words begin",
                lambda order, codes, words: torch.tensor([0] * order + [1] * (2 * codes + words)),
            ),
            Mistake(
                "both pictures are codes, the source, too",
                lambda order, codes, words: torch.tensor(
                    [0] * (order + codes) + [1] * codes + [0] * words
                ),
            ),
        ],
        otherwise="the word or code that stands one place further right decides",
    )


def chat_loss(answer: Callable) -> Verdict:
    """``chat_loss(image, answer, obeyed, said)``: a weighted mean of two means, a number; w = 1/4.

    ``image`` (B, N) and ``answer`` (B, A) are nats; ``obeyed`` (B,), ``said`` (B, A) bools.
    """

    def both(of_image: Tensor, of_answer: Tensor) -> Tensor:
        return (of_answer + of_image / 4) / 1.25

    def right(image: Tensor, answer: Tensor, obeyed: Tensor, said: Tensor) -> Tensor:
        return both(image[obeyed].mean(), answer[said].mean())

    generator, cases = _seeded(3), []
    for rows, places, words in ((4, 5, 3), (5, 2, 6)):
        image = torch.rand(rows, places, generator=generator) * 3
        nats = torch.rand(rows, words, generator=generator)
        obeyed = torch.arange(rows) % 3 == 0
        said = torch.arange(words) < 1 + torch.arange(rows)[:, None] % words
        cases.append((image, nats, obeyed, said))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "of refused orders there is no picture to learn",
                lambda image, answer, obeyed, said: both(image.mean(), answer[said].mean()),
            ),
            Mistake(
                "padding is learned here; leave it out",
                lambda image, answer, obeyed, said: both(image[obeyed].mean(), answer.mean()),
            ),
            Mistake(
                "zeros of the masked places must not count in the mean",
                lambda image, answer, obeyed, said: both(
                    (image * obeyed[:, None]).mean(), (answer * said).mean()
                ),
            ),
            Mistake(
                "answers of refused orders are learned, too: they are the refusals",
                lambda image, answer, obeyed, said: both(
                    image[obeyed].mean(), answer[said & obeyed[:, None]].mean()
                ),
            ),
            Mistake(
                "two means, each over its own places, not one over all",
                lambda image, answer, obeyed, said: torch.cat(
                    [image[obeyed].flatten(), answer[said]]
                ).mean(),
            ),
            Mistake(
                "the picture's mean has the weight w = 1/4, the answer's 1",
                lambda image, answer, obeyed, said: (
                    (image[obeyed].mean() + answer[said].mean()) / 2
                ),
            ),
            Mistake("divide by 1 + w: the weights add up to 1", lambda *a: 1.25 * right(*a)),
        ],
        read=lambda result, case: as_number(result),
        otherwise="means over obeyed rows and over said words, then (answer + image / 4) / 1.25",
    )
