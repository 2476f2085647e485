"""Checks of the exercises of the chapter on training with a quarter of the tokens."""

from collections.abc import Callable

import torch
from torch import Tensor

from gentok.book.checks import Mistake, Verdict, as_number, check


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def saving(answer: Callable) -> Verdict:
    """``saving(whole, thinned, ratio)``: how many times cheaper a masked pass is, a number.

    ``whole`` operations see all tokens whatever is masked, ``thinned`` ones grow with the tokens
    that are kept; ``ratio`` of the tokens are dropped.
    """
    return check(
        answer,
        lambda whole, thinned, ratio: (whole + thinned) / (whole + thinned * (1 - ratio)),
        [(40.0, 206.0, 0.75), (10.0, 90.0, 0.5), (3.0, 1.0, 0.875)],
        [
            Mistake("the part that sees everything is paid for, too", lambda w, t, r: 1 / (1 - r)),
            Mistake(
                "the ratio is what is dropped; 1 - ratio is left",
                lambda w, t, r: (w + t) / (w + t * r),
            ),
            Mistake(
                "the mixer and the caption's path are not thinned out",
                lambda w, t, r: (w + t) / ((w + t) * (1 - r)),
            ),
            Mistake(
                "that is the share that is left; the saving is its inverse",
                lambda w, t, r: (w + t * (1 - r)) / (w + t),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="all operations over those of a masked pass",
    )


def expert_choice(answer: Callable) -> Verdict:
    """``expert_choice(scores, k)``: weight of each expert at each token, (N, E), mostly zeros.

    ``scores`` (N, E) are the router's, before the softmax over the experts.
    """

    def take(values: Tensor, ranked: Tensor, k: int, axis: int) -> Tensor:
        chosen = torch.zeros_like(values, dtype=torch.bool)
        chosen.scatter_(axis, ranked.topk(k, axis).indices, True)
        return values * chosen

    def right(scores: Tensor, k: int) -> Tensor:
        weights = scores.softmax(1)
        return take(weights, weights, k, 0)

    def normalized(weights: Tensor) -> Tensor:
        return weights / weights.sum(1, keepdim=True).clamp_min(1e-9)

    generator, cases = _seeded(1), []
    for tokens, experts, k in ((8, 3, 2), (6, 4, 3), (10, 5, 4)):
        cases.append((2 * torch.randn(tokens, experts, generator=generator), k))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "here experts choose tokens: the k largest of each column, not of each row",
                lambda scores, k: take(scores.softmax(1), scores.softmax(1), k, 1),
            ),
            Mistake(
                "a token's probabilities over the experts add up to 1, not an expert's over tokens",
                lambda scores, k: take(scores.softmax(0), scores.softmax(0), k, 0),
            ),
            Mistake(
                "experts rank tokens by probability, not by score: the softmax comes first",
                lambda scores, k: take(scores.softmax(1), scores, k, 0),
            ),
            Mistake(
                "weights are probabilities, not scores",
                lambda scores, k: take(scores, scores.softmax(1), k, 0),
            ),
            Mistake(
                "the taken tokens have their probability as a weight, not 1",
                lambda scores, k: (right(scores, k) > 0).float(),
            ),
            Mistake(
                "the weights are not made to add up to 1 again",
                lambda scores, k: normalized(right(scores, k)),
            ),
        ],
        otherwise="softmax over experts; then each column keeps its k largest, the rest is 0",
    )


def kept_loss(answer: Callable) -> Verdict:
    """``kept_loss(error, keep, p)``: the loss of each picture on its kept patches, (B,).

    ``error`` (B, C, h, w) are weighted squared errors, ``keep`` (B, M) places of patches of p x p,
    counted row by row.
    """

    def patches(error: Tensor, p: int) -> Tensor:
        return torch.nn.functional.avg_pool2d(error.mean(1, keepdim=True), p).flatten(1)

    def right(error: Tensor, keep: Tensor, p: int) -> Tensor:
        return patches(error, p).gather(1, keep).mean(1)

    def filled(error: Tensor, keep: Tensor, p: int) -> Tensor:
        mask = torch.zeros_like(patches(error, p)).scatter(1, keep, 1.0)
        return (patches(error, p) * mask).mean(1)

    def dropped(error: Tensor, keep: Tensor, p: int) -> Tensor:
        mask = torch.ones_like(patches(error, p)).scatter(1, keep, 0.0)
        return (patches(error, p) * mask).sum(1) / mask.sum(1)

    def by_columns(error: Tensor, keep: Tensor, p: int) -> Tensor:
        return right(error.mT, keep, p)

    generator, cases = _seeded(2), []
    for rows, channels, side, p, left in ((3, 4, 8, 2, 4), (5, 2, 6, 1, 9), (4, 3, 12, 3, 5)):
        error = torch.rand(rows, channels, side, side, generator=generator)
        count = (side // p) ** 2
        keep = torch.rand(rows, count, generator=generator).argsort(1)[:, :left]
        cases.append((error, keep, p))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "dropped patches have no answer to be judged: leave them out",
                lambda error, keep, p: error.mean((1, 2, 3)),
            ),
            Mistake("divide by the number of kept patches, not of all", filled),
            Mistake("those are the dropped patches", dropped),
            Mistake(
                "one number a picture: the batch is averaged later", lambda *a: right(*a).mean()
            ),
            Mistake("patches are counted row by row", by_columns),
            Mistake(
                "the mean over the channels, not the sum",
                lambda error, keep, p: right(error, keep, p) * error.shape[1],
            ),
            Mistake(
                "the mean within a patch, not the sum",
                lambda error, keep, p: right(error, keep, p) * p * p,
            ),
        ],
        otherwise="mean over channels, mean within patches, then over the kept ones of each row",
    )


def c_skip(answer: Callable) -> Verdict:
    """``c_skip(sigma, sigma_data)``: the factor of the noisy picture in EDM's denoiser, (n,)."""
    sigma = torch.tensor([0.1, 0.7, 3.0, 20.0])
    return check(
        answer,
        lambda sigma, sigma_data: sigma_data**2 / (sigma**2 + sigma_data**2),
        [(sigma, 0.9), (sigma * 2, 0.5), (sigma + 0.3, 1.4)],
        [
            Mistake(
                "that grows with the noise: at high noise the noisy picture is worth nothing",
                lambda s, d: s**2 / (s**2 + d**2),
            ),
            Mistake("that is c_in, for unit variance", lambda s, d: 1 / (s**2 + d**2) ** 0.5),
            Mistake("that is c_out", lambda s, d: s * d / (s**2 + d**2) ** 0.5),
            Mistake("variances, not deviations: square them", lambda s, d: d / (s + d)),
            Mistake("no root: covariance over variance", lambda s, d: d / (s**2 + d**2) ** 0.5),
        ],
        otherwise="the best linear guess of x from x + n: covariance over variance",
    )
