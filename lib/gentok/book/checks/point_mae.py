"""Checks of the Point-MAE chapter's exercises."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gentok.book.checks import Arguments, Mistake, Unfit, Verdict, as_array, as_number, check
from gentok.measure import chamfer_distance
from gentok.nn.points import distances


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def next_point(answer: Callable) -> Verdict:
    """``next_point(points, chosen)``: the index that farthest point sampling adds.

    Points (P, 3), ``chosen`` a list of indices.
    """

    def gaps(points: Tensor, chosen: list[int]) -> Tensor:
        return distances(points[None], points[chosen][None])[0]  # (P, chosen)

    def right(points: Tensor, chosen: list[int]) -> Tensor:
        return gaps(points, chosen).amin(1).argmax()

    def from_mean(points: Tensor, chosen: list[int]) -> Tensor:
        return (points - points[chosen].mean(0)).norm(dim=1).argmax()

    def nearest(points: Tensor, chosen: list[int]) -> Tensor:
        away = gaps(points, chosen).amin(1)
        away[chosen] = torch.inf
        return away.argmin()

    generator, cases = _seeded(), []
    for count, seen in ((30, 2), (40, 5), (25, 9), (60, 3), (50, 4), (45, 6)):
        points = torch.randn(count, 3, generator=generator) * torch.tensor([4.0, 1.0, 0.5])
        chosen = torch.randperm(count, generator=generator)[:seen].tolist()
        if seen <= 3:  # both ends of a long shape are taken already
            order = points[:, 0].argsort()
            chosen[:2] = int(order[0]), int(order[-1])
        cases.append((points, list(dict.fromkeys(chosen))))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "that is farthest from the mean of the chosen ones: always an outer point",
                from_mean,
            ),
            Mistake(
                "to a chosen point the distance is its NEAREST chosen one: min, not max",
                lambda p, c: gaps(p, c).amax(1).argmax(),
            ),
            Mistake(
                "to the nearest chosen point, not to all of them in the mean",
                lambda p, c: gaps(p, c).mean(1).argmax(),
            ),
            Mistake("that is the point nearest to the chosen ones; take the farthest", nearest),
            Mistake(
                "that is a chosen point, at distance 0; take the largest of the minima",
                lambda p, c: gaps(p, c).amin(1).argmin(),
            ),
            Mistake(
                "compare with all chosen points, not with the latest alone",
                lambda p, c: gaps(p, c[-1:]).amin(1).argmax(),
            ),
            Mistake(
                "compare with all chosen points, not with the first alone",
                lambda p, c: gaps(p, c[:1]).amin(1).argmax(),
            ),
            Mistake("return its index, not its distance", lambda p, c: gaps(p, c).amin(1).amax()),
        ],
        read=lambda result, case: _as_index(result, len(case[0])),
        otherwise="distance to the nearest chosen point, and of these the largest",
    )


def _as_index(result: Any, count: int) -> Tensor:
    if as_array(result).numel() == 3 and count != 3:
        raise Unfit("return the index of the point, not its coordinates")
    return as_number(result)


def chamfer(answer: Callable) -> Verdict:
    """``chamfer(a, b)``: the paper's distance of two sets (P, 3) and (Q, 3), a number."""

    def right(a: Tensor, b: Tensor) -> Tensor:
        return chamfer_distance(a[None], b[None])[0]

    def halves(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        gaps = distances(a[None], b[None])[0]
        return gaps.amin(1), gaps.amin(0)

    def combined(make: Callable[[Tensor, Tensor], Tensor]) -> Callable:
        return lambda a, b: make(*halves(a, b))

    generator = _seeded()
    cases = [
        (torch.randn(p, 3, generator=generator), 2 * torch.randn(q, 3, generator=generator))
        for p, q in ((5, 7), (9, 4), (6, 6), (1, 8))
    ]
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "distances are squared",
                combined(lambda there, back: there.mean() + back.mean()),
            ),
            Mistake(
                "that is the L1 form, a root and a half; the paper's is squared and summed",
                combined(lambda there, back: (there.mean() + back.mean()) / 2),
            ),
            Mistake(
                "only one direction; there is a way back, from b to a",
                combined(lambda there, back: there.square().mean()),
            ),
            Mistake(
                "only one direction; there is a way there, from a to b",
                combined(lambda there, back: back.square().mean()),
            ),
            Mistake(
                "a mean over points, not a sum",
                combined(lambda there, back: there.square().sum() + back.square().sum()),
            ),
            Mistake(
                "the two directions are summed, not averaged",
                combined(lambda there, back: (there.square().mean() + back.square().mean()) / 2),
            ),
            Mistake(
                "a mean over points; the largest gap is the Hausdorff distance",
                combined(lambda there, back: there.square().amax() + back.square().amax()),
            ),
            Mistake(
                "each point looks for its NEAREST partner: a minimum, not a mean, over the others",
                lambda a, b: 2 * distances(a[None], b[None])[0].square().mean(),
            ),
            Mistake(
                "each direction has a mean of its own: divide by P, and by Q",
                combined(lambda there, back: torch.cat([there, back]).square().mean()),
            ),
        ],
        read=lambda result, case: as_number(result),
        otherwise="means of squared distances to the nearest point, from a to b and from b to a",
    )


def visible(answer: Callable) -> Verdict:
    """``visible(tokens, mask)``: tokens (B, G, D) where mask (B, G) is False -> (B, V, D)."""

    def where(tokens: Tensor, keep: Tensor) -> Tensor:
        return torch.stack([row[kept] for row, kept in zip(tokens, keep, strict=True)])

    def right(tokens: Tensor, mask: Tensor) -> Tensor:
        return where(tokens, ~mask)

    def zeroed(tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens.masked_fill(mask[..., None], 0)

    generator, cases = _seeded(), []
    for rows, patches, hidden in ((3, 8, 5), (4, 7, 2), (2, 10, 9)):
        tokens = torch.randn(rows, patches, 4, generator=generator)
        order = torch.rand(rows, patches, generator=generator).argsort(-1).argsort(-1)
        cases.append((tokens, order < hidden))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "boolean indexing flattens the rows; restore (B, V, D)",
                lambda tokens, mask: tokens[~mask],
            ),
            Mistake("these are the masked ones; True means masked", where),
            Mistake("masked tokens are left out, not set to zero", zeroed),
            Mistake(
                "of the first row's mask all rows were cut; each has its own",
                lambda tokens, mask: tokens[:, ~mask[0]],
            ),
            Mistake(
                "the order of the patches must stay",
                lambda tokens, mask: right(tokens, mask).flip(1),
            ),
        ],
        otherwise="of each row the tokens whose mask is False, in their order: (B, V, D)",
    )


def encoder_macs(answer: Callable) -> Verdict:
    """``encoder_macs(dim, depth, num_patches, mask_ratio)``: MACs of the encoder's blocks.

    Each of the V = G - floor(r G) tokens costs 12 D^2 in a block, attention 2 V^2 D: n (12 V D^2 +
    2 V^2 D).
    """

    def macs(v: float, d: int, depth: int, mlp: int = 8, attention: int = 2) -> float:
        return depth * ((4 + mlp) * v * d**2 + attention * v * v * d)

    def seen(patches: int, ratio: float) -> int:
        return patches - int(ratio * patches)

    def right(d: int, depth: int, patches: int, ratio: float) -> float:
        return macs(seen(patches, ratio), d, depth)

    def with_visible(**changes: int) -> Callable:
        return lambda d, depth, patches, ratio: macs(seen(patches, ratio), d, depth, **changes)

    return check(
        answer,
        right,
        [(8, 3, 20, 0.6), (384, 12, 64, 0.6), (16, 1, 10, 0.75), (64, 3, 32, 0.9)],
        [
            Mistake("the encoder sees the visible patches only", lambda d, n, g, r: macs(g, d, n)),
            Mistake(
                "these are the masked patches; the encoder sees the others",
                lambda d, n, g, r: macs(int(r * g), d, n),
            ),
            Mistake(
                "floor(r G) patches are MASKED; the number of visible ones is an integer, too",
                lambda d, n, g, r: macs((1 - r) * g, d, n),
            ),
            Mistake(
                "the number of MASKED patches is rounded down, not that of the visible ones",
                lambda d, n, g, r: macs(int((1 - r) * g), d, n),
            ),
            Mistake("the MLP is missing: 8 D^2 a token", with_visible(mlp=0)),
            Mistake("attention itself is missing: 2 V^2 D", with_visible(attention=0)),
            Mistake("attention multiplies twice: scores, then values", with_visible(attention=1)),
            Mistake("these are FLOPs; a MAC is two of them", lambda *a: 2 * right(*a)),
            Mistake("that is one block; there are several", lambda d, n, g, r: right(d, 1, g, r)),
        ],
        read=lambda result, case: as_number(result),
        otherwise="n (12 V D^2 + 2 V^2 D) with V visible patches",
        tolerance=1e-9,
    )


def part_iou(answer: Callable) -> Verdict:
    """``part_iou(predicted, truth, parts)``: mean over ``parts`` of intersection over union.

    Parts of the points of one cloud, (P,) int64; a part that neither holds counts 1.
    """

    def ious(predicted: Tensor, truth: Tensor, parts: list[int], empty: float = 1.0) -> Tensor:
        both = torch.stack([((predicted == s) & (truth == s)).sum() for s in parts])
        either = torch.stack([((predicted == s) | (truth == s)).sum() for s in parts])
        return torch.where(either > 0, both / either.clamp_min(1), empty)

    def right(predicted: Tensor, truth: Tensor, parts: list[int]) -> Tensor:
        return ious(predicted, truth, parts).mean()

    def dice(predicted: Tensor, truth: Tensor, parts: list[int]) -> Tensor:
        share = ious(predicted, truth, parts)
        return (2 * share / (1 + share)).mean()

    def recall(predicted: Tensor, truth: Tensor, parts: list[int]) -> Tensor:
        found = [((predicted == s) & (truth == s)).sum() / (truth == s).sum() for s in parts]
        return torch.stack(found).nan_to_num(1.0).mean()

    generator, cases = _seeded(), []
    for parts, used in (([2, 3, 4], 3), ([0, 1], 2), ([5, 6, 7], 2)):
        truth = parts[0] + torch.randint(used, (40,), generator=generator)
        other = parts[0] + torch.randint(used, (40,), generator=generator)
        wrong = torch.rand(40, generator=generator) < 0.3
        cases.append((torch.where(wrong, other, truth), truth, parts))
    return check(
        answer,
        right,
        cases,
        [
            Mistake(
                "that is the share of right points; large parts hide small ones",
                lambda p, t, parts: (p == t).float().mean(),
            ),
            Mistake(
                "a part that neither holds counts 1, not 0",
                lambda p, t, parts: ious(p, t, parts, empty=0.0).mean(),
            ),
            Mistake(
                "a part that neither holds counts 1; do not leave it out",
                lambda p, t, parts: ious(p, t, parts, empty=torch.nan).nanmean(),
            ),
            Mistake("that is the Dice score; divide by the union alone", dice),
            Mistake("divide by the union, not by the true points alone", recall),
            Mistake("the mean over parts, not their sum", lambda *a: ious(*a).sum()),
        ],
        read=lambda result, case: _as_share(result, case),
        otherwise="for each part intersection over union of its points; then the mean over parts",
    )


def _as_share(result: Any, case: Arguments) -> Tensor:
    if as_array(result).numel() == len(case[2]) > 1:
        raise Unfit("these are the parts' own values; return their mean")
    return as_number(result)
