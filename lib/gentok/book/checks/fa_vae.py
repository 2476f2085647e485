"""Checks of the FA-VAE chapter's exercises."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.base.foundation import distance_matrix_loss
from gentok.book.checks import Arguments, Mistake, Unfit, Verdict, as_array, as_number, check
from gentok.nn.wavelet import haar2d


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def haar(answer: Callable) -> Verdict:
    """``haar(x)``: (low, high) of images (B, C, H, W); high is [LH, HL, HH] stacked on channels."""

    def bands(x: Tensor) -> list[Tensor]:
        low, high = haar2d(x)
        return [low, *high.chunk(3, dim=1)]

    def joined(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
        return parts[0], torch.cat(parts[1:], dim=1)

    def changed(change: Callable[[list[Tensor]], list[Tensor]]) -> Callable:
        return lambda x: joined(change(bands(x)))

    def by_colour(x: Tensor) -> tuple[Tensor, Tensor]:
        high = haar2d(x)[1].unflatten(1, (3, -1))  # (B, 3 bands, C, h, w)
        return haar2d(x)[0], high.transpose(1, 2).flatten(1, 2)

    def pieces(x: Tensor) -> tuple[Tensor, Tensor]:
        a, b, c, d = (x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
        return (a + b + c + d) / 2, torch.cat([a - c, a - b, a - d], dim=1)

    def read(result: Any, case: Arguments) -> Tensor:
        if not isinstance(result, (list, tuple)) or len(result) != 2:
            raise Unfit("return two tensors: low and high")
        b, c, h, w = case[0].shape
        low, high = as_array(result[0]), as_array(result[1])
        for name, band, shape in (
            ("low", low, (b, c, h // 2, w // 2)),
            ("high", high, (b, 3 * c, h // 2, w // 2)),
        ):
            if band.shape != shape:
                raise Unfit(f"{name} has the shape {tuple(band.shape)} and should have {shape}")
        return torch.cat([low, high], dim=1)

    generator = _seeded()
    return check(
        answer,
        haar2d,
        [(torch.randn(3, c, 6, 8, generator=generator),) for c in (3, 1)],
        [
            Mistake(
                "that is averaging Haar: divide by 2, not by 4",
                changed(lambda p: [band / 2 for band in p]),
            ),
            Mistake("the factor 1/2 is missing", changed(lambda p: [2 * band for band in p])),
            Mistake(
                "divide by 2 and not by its root: the factor is 1/2 in two dimensions",
                changed(lambda p: [band * 2**0.5 for band in p]),
            ),
            Mistake(
                "LH and HL are swapped: LH is the difference of rows",
                changed(lambda p: [p[0], p[2], p[1], p[3]]),
            ),
            Mistake(
                "LH, HL and HH have the wrong sign",
                changed(lambda p: [p[0], -p[1], -p[2], -p[3]]),
            ),
            Mistake("HH has the wrong sign", changed(lambda p: [*p[:3], -p[3]])),
            Mistake("stack band by band, not colour by colour", by_colour),
            Mistake("each band is a sum of all four pixels", pieces),
        ],
        read=read,
        otherwise="look at the signs: + + - -, + - + -, + - - +",
    )


def best_answer(answer: Callable) -> Verdict:
    """``best_answer(coefficients, loss)``: the constant of a row that has the least mean loss.

    Coefficients (B, n), n odd; loss "l1" or "l2"; returns (B,).
    """

    def right(coefficients: Tensor, loss: str) -> Tensor:
        return coefficients.median(1).values if loss == "l1" else coefficients.mean(1)

    def swapped(coefficients: Tensor, loss: str) -> Tensor:
        return right(coefficients, "l2" if loss == "l1" else "l1")

    generator, cases = _seeded(1), []
    for rows, n in ((3, 9), (5, 31)):
        # Mostly near 0, a few large and positive: mean and median lie apart.
        x = torch.randn(rows, n, generator=generator) * 0.1
        x += 3 * (torch.rand(rows, n, generator=generator) < 0.3)
        cases += [(x, "l1"), (x, "l2")]
    return check(
        answer,
        right,
        cases,
        [
            Mistake("swapped: L2 is answered by the mean, L1 by the median", swapped),
            Mistake(
                "that is the mean in both cases; which is best for L1?", lambda x, _: x.mean(1)
            ),
            Mistake(
                "that is the median in both cases; which is best for L2?",
                lambda x, _: x.median(1).values,
            ),
            Mistake("the best constant need not be 0", lambda x, _: torch.zeros(len(x))),
            Mistake("one answer a row, not one for all rows", lambda x, k: _all(right, x, k)),
            Mistake(
                "the first row's answer is not that of the others",
                lambda x, k: right(x[:1], k).expand(len(x)),
            ),
            Mistake(
                "that is the least loss; return the constant that has it",
                lambda x, k: _least(right(x, k), x, k),
            ),
        ],
        otherwise="set the derivative of the mean loss to 0: for |x - c| it counts signs",
    )


def _all(right: Callable, x: Tensor, loss: str) -> Tensor:
    return right(x.reshape(1, -1), loss).expand(len(x))


def _least(constant: Tensor, x: Tensor, loss: str) -> Tensor:
    error = (x - constant[:, None]).abs()
    return error.mean(1) if loss == "l1" else error.square().mean(1)


def high_loss(answer: Callable) -> Verdict:
    """``high_loss(x, x_hat)``: mean squared error of the high bands of final images, one number."""

    def error(x: Tensor, y: Tensor, scale: float = 1.0, power: int = 2) -> Tensor:
        gap = (haar2d(x)[1] - haar2d(y)[1]).abs()
        return (scale * gap).pow(power).mean()

    generator, cases = _seeded(2), []
    for rows in (2, 3):
        x = torch.rand(rows, 3, 8, 8, generator=generator) * 2 - 1
        cases.append((x, 1.6 * x.flip(-1) + 0.1))
    return check(
        answer,
        lambda x, y: error(x, y.clamp(-1, 1)),
        cases,
        [
            Mistake("a screen shows [-1, 1]: clamp the reconstruction first", error),
            Mistake(
                "that is averaging Haar; the orthonormal factor is 1/2",
                lambda x, y: error(x, y.clamp(-1, 1), scale=0.5),
            ),
            Mistake(
                "that is the error of all bands together",
                lambda x, y: (x - y.clamp(-1, 1)).square().mean(),
            ),
            Mistake(
                "that is the error of the low band",
                lambda x, y: (haar2d(x)[0] - haar2d(y.clamp(-1, 1))[0]).square().mean(),
            ),
            Mistake(
                "that is the absolute error; square it",
                lambda x, y: error(x, y.clamp(-1, 1), power=1),
            ),
            Mistake(
                "a mean, not a sum",
                lambda x, y: error(x, y.clamp(-1, 1)) * haar2d(x)[1].numel(),
            ),
            Mistake(
                "clamp the image, not its bands",
                lambda x, y: (haar2d(x)[1] - haar2d(y)[1].clamp(-1, 1)).square().mean(),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="compare haar2d(x)[1] with haar2d of the clamped image, mean of squares",
    )


def distance_matrix(answer: Callable) -> Verdict:
    """``distance_matrix(z, f, margin)``: L_mdms of tokens (B, N, D) and (B, N, D'), one number."""

    def gaps(z: Tensor, f: Tensor, unit: bool = True) -> Tensor:
        if unit:
            z, f = F.normalize(z, dim=-1), F.normalize(f, dim=-1)
        return z @ z.mT - f @ f.mT

    def no_diagonal(z: Tensor, f: Tensor, margin: float) -> Tensor:
        n = z.shape[1]
        return distance_matrix_loss(z, f, margin) * n / (n - 1)  # it is 0 on the diagonal

    generator = _seeded(3)
    cases = [
        (
            torch.randn(3, 6, 4, generator=generator),
            torch.randn(3, 6, 5, generator=generator),
            margin,
        )
        for margin in (0.25, 0.4)
    ]
    return check(
        answer,
        distance_matrix_loss,
        cases,
        [
            Mistake(
                "take the absolute value of each difference",
                lambda z, f, m: F.relu(gaps(z, f) - m).mean(),
            ),
            Mistake(
                "apply the margin to each pair, not to the mean",
                lambda z, f, m: F.relu(gaps(z, f).abs().mean() - m),
            ),
            Mistake(
                "scale tokens to unit length: cosines, not products",
                lambda z, f, m: F.relu(gaps(z, f, unit=False).abs() - m).mean(),
            ),
            Mistake("the margin is missing", lambda z, f, m: gaps(z, f).abs().mean()),
            Mistake(
                "squares are not asked for", lambda z, f, m: F.relu(gaps(z, f) ** 2 - m).mean()
            ),
            Mistake(
                "the mean, not the sum over pairs",
                lambda z, f, m: F.relu(gaps(z, f).abs() - m).sum(),
            ),
            Mistake(
                "the mean over pictures too, not their sum",
                lambda z, f, m: distance_matrix_loss(z, f, m) * len(z),
            ),
            Mistake(
                "pairs lie within one picture, not across the batch",
                lambda z, f, m: distance_matrix_loss(
                    z.flatten(0, 1)[None], f.flatten(0, 1)[None], m
                ),
            ),
            Mistake("the mean runs over all N x N pairs", no_diagonal),
        ],
        read=lambda result, case: as_number(result),
        otherwise="compare your formula with L_mdms in the chapter",
    )


def mean_cap(answer: Callable) -> Verdict:
    """``mean_cap(cap, shape)``: a cap of summed losses, in the unit of means; shape (C, H, W)."""

    def values(shape: tuple[int, int, int]) -> int:
        return shape[0] * shape[1] * shape[2]

    cases = [(1e4, (3, 256, 256)), (1e8, (3, 256, 256)), (1e4, (9, 16, 16)), (50.0, (1, 4, 8))]
    return check(
        answer,
        lambda cap, shape: cap / values(shape),
        cases,
        [
            Mistake("the cap stays only if both losses are summed", lambda cap, shape: cap),
            Mistake(
                "the ratio of gradients shrinks with the reconstruction loss: divide, not multiply",
                lambda cap, shape: cap * values(shape),
            ),
            Mistake("count channels, too", lambda cap, shape: cap / (shape[1] * shape[2])),
            Mistake("a mean over H x W, not over H", lambda cap, shape: cap / shape[1]),
            Mistake(
                "only one of the two gradients shrinks, and by V, not by its root",
                lambda cap, shape: cap / values(shape) ** 0.5,
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="how does the norm of the reconstruction's gradient change, and how the other's?",
        tolerance=1e-6,
    )
