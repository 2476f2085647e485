"""Checks of the MatFormer chapter's exercises."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gentok.book.checks import Arguments, Mistake, Unfit, Verdict, as_array, as_number, check


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def cut(answer: Callable) -> Verdict:
    """``cut(w1, b1, w2, b2, m)``: the layer's first m neurons: four tensors, in this order.

    Weights as in `nn.Linear`: w1 (F, D), b1 (F,), w2 (D, F), b2 (D,). A dictionary with these names
    serves, too.
    """

    def right(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, m: int) -> list[Tensor]:
        return [w1[:m], b1[:m], w2[:, :m], b2]

    generator, cases = _seeded(), []
    for dim, hidden, m in ((4, 8, 2), (5, 12, 3), (6, 6, 4)):
        shapes = (hidden, dim), (hidden,), (dim, hidden), (dim,)
        weights = [torch.randn(shape, generator=generator) for shape in shapes]
        cases.append((*weights, m))

    def read(result: Any, case: Arguments) -> Tensor:
        names = ("w1", "b1", "w2", "b2")
        if isinstance(result, dict) and set(result) == set(names):
            result = [result[name] for name in names]
        if not isinstance(result, (list, tuple)) or len(result) != 4:
            raise Unfit("return four tensors: w1, b1, w2, b2")
        parts = [as_array(part) for part in result]
        for name, part, wanted in zip(names, parts, right(*case), strict=True):
            if part.shape != wanted.shape:
                raise Unfit(_shape_mistake(name, part, tuple(wanted.shape), case))
        return torch.cat([part.flatten() for part in parts])

    def picked(where: Callable[[int, int], Tensor | slice]) -> Callable:
        def answer(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, m: int) -> list[Tensor]:
            keep = where(len(b1), m)
            return [w1[keep], b1[keep], w2[:, keep], b2]

        return answer

    def mixed(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, m: int) -> list[Tensor]:
        return [w1[:m], b1[:m], w2[:, -m:], b2]

    return check(
        answer,
        right,
        cases,
        [
            Mistake("the first m neurons, not the last", picked(lambda f, m: slice(f - m, f))),
            Mistake("rows of w1 and columns of w2 must be the same neurons", mixed),
            Mistake("every width keeps b2 as it is", lambda *a: [*right(*a)[:3], 0 * a[3]]),
            Mistake(
                "every width keeps b2 as it is",
                lambda *a: [*right(*a)[:3], a[3] * a[4] / len(a[1])],
            ),
        ],
        read=read,
        otherwise="the first m rows of w1 and b1, the first m columns of w2, all of b2",
    )


def _shape_mistake(name: str, part: Tensor, wanted: tuple[int, ...], case: Arguments) -> str:
    (hidden, _), m = case[0].shape, case[4]
    if name == "w1" and tuple(part.shape) == (hidden, m):
        return "neurons are the rows of w1: outputs come first in nn.Linear"
    if name == "w2" and tuple(part.shape) == (m, hidden):
        return "neurons are the columns of w2, its inputs"
    if name == "b2" and part.shape == (m,):
        return "b2 belongs to the D outputs, not to neurons: leave it whole"
    return f"{name} has the shape {tuple(part.shape)} and should have {wanted}"


def joint_cost(answer: Callable) -> Verdict:
    """``joint_cost(ratios)``: a step that trains all granularities, in steps of XL alone.

    ``ratios`` are m / D, small to large. Weights of a layer count: 4 D^2 + 2 D m.
    """

    def layers(ratios: tuple[float, ...], attention: float = 4, matrices: float = 2) -> list[float]:
        return [attention + matrices * ratio for ratio in ratios]

    def right(ratios: tuple[float, ...]) -> float:
        return sum(layers(ratios)) / layers(ratios)[-1]

    return check(
        answer,
        right,
        [((0.5, 1, 2, 4),), ((1, 2),), ((1, 2, 4, 8),), ((0.25, 0.5, 3),)],
        [
            Mistake(
                "attention runs once for every granularity, too",
                lambda r: (4 + 2 * sum(r)) / (4 + 2 * r[-1]),
            ),
            Mistake("attention costs as well: 4 D^2 a layer", lambda r: sum(r) / r[-1]),
            Mistake("the small ones are cheaper than XL", lambda r: len(r)),
            Mistake("that is the mean: a step of sampling mode", lambda r: right(r) / len(r)),
            Mistake("divide by the cost of XL", lambda r: sum(layers(r))),
            Mistake("divide by XL, the last", lambda r: sum(layers(r)) / layers(r)[0]),
            Mistake(
                "the feed-forward part has two matrices: 2 D m",
                lambda r: sum(layers(r, matrices=1)) / layers(r, matrices=1)[-1],
            ),
            Mistake(
                "attention has four matrices: queries, keys, values, output",
                lambda r: sum(layers(r, attention=3)) / layers(r, attention=3)[-1],
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="sum (4 + 2 r) over the ratios r, divided by that of the last",
        tolerance=1e-6,
    )


def outcome(answer: Callable) -> Verdict:
    """``outcome(p, q)``: chance that a draft is kept, and the law (K,) that replaces it if not.

    p is the verifier's law and q the draft's, (K,) each. A tuple, a list, or a dictionary with
    ``chance`` and ``residual``.
    """

    def residual(left: Tensor) -> Tensor:
        return left / left.sum()

    def right(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        return torch.minimum(p, q).sum(), residual((p - q).clamp_min(0))

    generator, cases = _seeded(), []
    for size in (3, 7, 20, 5):
        laws = (2 * torch.randn(2, size, generator=generator, dtype=torch.float64)).softmax(-1)
        cases.append(tuple(laws))

    def read(result: Any, case: Arguments) -> Tensor:
        if isinstance(result, dict) and set(result) == {"chance", "residual"}:
            result = [result["chance"], result["residual"]]
        if not isinstance(result, (list, tuple)) or len(result) != 2:
            raise Unfit("return two things: the chance, and the law (K,) of the replacement")
        chance, law = as_number(result[0]), as_array(result[1])
        if law.shape != case[0].shape:
            raise Unfit(f"the law has the shape {tuple(law.shape)} and should be ({len(case[0])},)")
        return torch.cat([chance[None], law])

    def but(chance: Callable | None = None, law: Callable | None = None) -> Callable:
        def wrong(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
            a, b = right(p, q)
            return chance(p, q) if chance else a, law(p, q) if law else b

        return wrong

    fresh = "a fresh draw from p counts twice what q covers: take what is left of p"
    return check(
        answer,
        right,
        cases,
        [
            Mistake("that is the chance that two draws agree", but(lambda p, q: (p * q).sum())),
            Mistake(
                "drafts come from q: weigh min(1, p/q) with q",
                but(lambda p, q: (p / q).clamp(max=1).mean()),
            ),
            Mistake(
                "that is the chance of a refusal", but(lambda p, q: 1 - torch.minimum(p, q).sum())
            ),
            Mistake(
                "p and q are swapped: what p has more than q is left",
                but(law=lambda p, q: residual((q - p).clamp_min(0))),
            ),
            Mistake(fresh, but(law=lambda p, q: p)),
            Mistake("a law sums to 1: divide", but(law=lambda p, q: (p - q).clamp_min(0))),
            Mistake(
                "where q is larger, nothing is left: cut at 0, no absolute value",
                but(law=lambda p, q: residual((p - q).abs())),
            ),
            Mistake(
                "a softmax of p - q gives mass to tokens that p has enough of",
                but(law=lambda p, q: (p - q).softmax(-1)),
            ),
        ],
        read=read,
        otherwise="chance: sum of min(p, q); law: max(p - q, 0), divided by its sum",
        tolerance=1e-5,
    )


def tokens_per_pass(answer: Callable) -> Verdict:
    """``tokens_per_pass(alpha, k)``: tokens that a pass of the verifier yields on average.

    Each of k drafts is kept with probability alpha, independently, up to the first refusal; alpha
    may be 1.
    """

    def right(alpha: float, k: int) -> float:
        return sum(alpha**i for i in range(k + 1))

    return check(
        answer,
        right,
        [(0.5, 1), (0.9, 4), (0.3, 7), (0.75, 2), (1.0, 3), (0.0, 5)],
        [
            Mistake(
                "the verifier's own token comes on top: one more",
                lambda a, k: sum(a**i for i in range(1, k + 1)),
            ),
            Mistake(
                "drafts behind a refused one are dropped: it is not 1 + k alpha",
                lambda a, k: 1 + k * a,
            ),
            Mistake("that is only the case that all are kept", lambda a, k: (k + 1) * a**k),
            Mistake("one term too few: from alpha^0 to alpha^k", lambda a, k: right(a, k - 1)),
            Mistake("one term too many: from alpha^0 to alpha^k", lambda a, k: right(a, k + 1)),
            Mistake(
                "alpha is the chance to be kept, not to be refused", lambda a, k: right(1 - a, k)
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="1 + alpha + ... + alpha^k",
        tolerance=1e-6,
    )
