"""Checks of the CvT chapter's exercises."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gentok.backbones.cvt.cost import block_macs
from gentok.book.checks import Arguments, Mistake, Unfit, Verdict, as_array, as_number, check

STAGES = ((7, 4, 2), (3, 2, 1), (3, 2, 1))  # kernel, stride, padding of CvT-13's embeddings


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def grids(answer: Callable) -> Verdict:
    """``grids(size)``: the sides of CvT-13's three grids for a square picture."""

    def sides(size: int, stages=STAGES, chained: bool = True) -> list[int]:
        found, side = [], size
        for kernel, stride, padding in stages:
            side = ((side if chained else size) + 2 * padding - kernel) // stride + 1
            found.append(side)
        return found

    def ceiled(size: int) -> list[int]:
        found, side = [], size
        for kernel, stride, padding in STAGES:
            side = -(-(side + 2 * padding - kernel) // stride) + 1
            found.append(side)
        return found

    def padded(*paddings: int) -> Callable[[int], list[int]]:
        stages = [(k, s, p) for (k, s, _), p in zip(STAGES, paddings, strict=True)]
        return lambda size: sides(size, stages)

    def read(result: Any, case: Arguments) -> Tensor:
        found = as_array(result)
        if found.shape != (3,):
            raise Unfit(f"return three sides, one a stage, not shape {tuple(found.shape)}")
        return found

    return check(
        answer,
        sides,
        [(224,), (230,), (97,), (384,), (65,)],
        [
            Mistake("the padding of the first kernel is 2, not 3", padded(3, 1, 1)),
            Mistake("the paddings 2, 1, 1 are left out, or the 1 is not added", padded(0, 0, 0)),
            Mistake("round down, not up", ceiled),
            Mistake(
                "each stage starts from the grid before it, not from the picture",
                lambda size: sides(size, chained=False),
            ),
            Mistake("sides, not numbers of tokens", lambda size: [n * n for n in sides(size)]),
            Mistake(
                "right where strides divide the side; elsewhere follow the equation",
                lambda size: [size // 4, size // 8, size // 16],
            ),
        ],
        read=read,
        otherwise="kernels 7, 3, 3; strides 4, 2, 2; paddings 2, 1, 1",
    )


def saved(answer: Callable) -> Verdict:
    """``saved(dim, side)``: MACs that stride 2 saves in a block without class token, against 1."""

    def right(dim: int, side: int) -> int:
        wide, narrow = (block_macs(dim, side, side, False, stride, True) for stride in (1, 2))
        return wide - narrow

    def part(conv: int = 18, maps: int = 2, pairs: int = 2, gone: Callable | None = None):
        def macs(dim: int, side: int) -> float:
            lost = side**2 - (-(-side // 2)) ** 2 if gone is None else gone(side)
            return (conv * dim + maps * dim**2 + pairs * side**2 * dim) * lost

        return macs

    return check(
        answer,
        right,
        [(6, 7), (64, 56), (5, 4), (32, 9)],
        [
            Mistake(
                "7 / 2 rounds up to 4, not down to 3",
                part(gone=lambda side: side**2 - (side // 2) ** 2),
            ),
            Mistake(
                "three quarters of the keys go only where the side is even",
                part(gone=lambda side: 0.75 * side**2),
            ),
            Mistake("keys and values are also convolved and mapped less", part(0, 0)),
            Mistake("the depth-wise convolutions of k and v save, too", part(conv=0)),
            Mistake("the linear maps of k and v save, too", part(maps=0)),
            Mistake("the attention matrix has fewer columns, too", part(pairs=0)),
            Mistake("two convolutions are strided, that of k and that of v", part(conv=9)),
            Mistake("two linear maps have fewer inputs, that of k and that of v", part(maps=1)),
            Mistake("scores *and* the weighted sum of values save", part(pairs=1)),
            Mistake("these are FLOPs; a MAC is two of them", lambda *a: 2 * right(*a)),
            Mistake(
                "that is what is left, not what is saved",
                lambda dim, side: block_macs(dim, side, side, False, 2, True),
            ),
            Mistake("saved: stride 1 less stride 2", lambda *a: -right(*a)),
        ],
        read=lambda result, case: as_number(result),
        otherwise="subtract the formula at stride 2 from that at stride 1; c = 0",
        tolerance=1e-9,
    )


def projected(answer: Callable) -> Verdict:
    """``projected(tokens, weight, size, stride)``: the depth-wise convolution of tokens.

    Tokens (B, 1 + H W, C), the class token first; weight (C, 1, 3, 3); size (H, W). The class token
    passes by, so the result is (B, 1 + H' W', C). Without batch norm.
    """

    def right(x: Tensor, weight: Tensor, size, stride: int, swap=False, padding=1, keep=True):
        height, width = size[::-1] if swap else size
        token, grid = x[:, :1], x[:, 1:]
        grid = grid.mT.reshape(len(x), -1, height, width)
        looked = torch.nn.functional.conv2d(
            grid, weight, stride=stride, padding=padding, groups=len(weight)
        )
        looked = looked.flatten(2).mT
        return torch.cat([token, looked], 1) if keep else looked

    def unmoved(x: Tensor, weight: Tensor, size, stride: int) -> Tensor:
        grid = x[:, 1:].reshape(len(x), -1, *size)  # a view that mixes channels and places
        looked = torch.nn.functional.conv2d(
            grid, weight, stride=stride, padding=1, groups=len(weight)
        )
        return torch.cat([x[:, :1], looked.flatten(2).mT], 1)

    def last(x: Tensor, weight: Tensor, size, stride: int) -> Tensor:
        moved = torch.cat([x[:, -1:], x[:, :-1]], 1)
        out = right(moved, weight, size, stride)
        return torch.cat([out[:, 1:], out[:, :1]], 1)

    generator, cases = _seeded(), []
    for size, stride in (((4, 6), 1), ((4, 6), 2), ((5, 3), 2)):
        tokens = torch.randn(3, 1 + size[0] * size[1], 5, generator=generator)
        cases.append((tokens, torch.randn(5, 1, 3, 3, generator=generator), size, stride))

    def read(result: Any, case: Arguments) -> Tensor:
        found = as_array(result)
        if found.ndim != 3 or found.shape[0] != 3:
            raise Unfit(f"return tokens (B, N, C), not shape {tuple(found.shape)}")
        return found

    return check(
        answer,
        right,
        cases,
        [
            Mistake("the class token is missing", lambda *a: right(*a, keep=False)),
            Mistake("size is (H, W): rows first", lambda *a: right(*a, swap=True)),
            Mistake("the class token comes first, not last", last),
            Mistake(
                "move the channels before you fold the grid: (B, H W, C) -> (B, C, H, W)", unmoved
            ),
            Mistake("padding 1 keeps the grid at stride 1", lambda *a: right(*a, padding=0)),
            Mistake("the stride is left out", lambda x, w, size, stride: right(x, w, size, 1)),
            Mistake(
                "PyTorch's conv2d does not turn the kernel; do not flip it",
                lambda x, w, size, stride: right(x, w.flip(2, 3), size, stride),
            ),
        ],
        read=read,
        otherwise="split off the class token, fold to (B, C, H, W), convolve, flatten, put it back",
    )


def low_share(answer: Callable) -> Verdict:
    """``low_share(weight)``: response at frequency 0 over the mean response, filters (C, 1, 3, 3).

    The response is |DFT| on a grid of 33 x 33 frequencies, averaged over channels.
    """

    def spectrum(weight: Tensor) -> Tensor:
        return torch.fft.fft2(weight[:, 0].double(), s=(33, 33))  # (C, 33, 33)

    def right(weight: Tensor) -> Tensor:
        response = spectrum(weight).abs().mean(0)
        return response[0, 0] / response.mean()

    def shifted(weight: Tensor) -> Tensor:
        response = torch.fft.fftshift(spectrum(weight).abs().mean(0))
        return response[0, 0] / response.mean()

    def signed(weight: Tensor) -> Tensor:
        response = spectrum(weight).mean(0).abs()
        return response[0, 0] / response.mean()

    def power(weight: Tensor) -> Tensor:
        response = spectrum(weight).abs().square().mean(0)
        return response[0, 0] / response.mean()

    def each(weight: Tensor) -> Tensor:
        response = spectrum(weight).abs()
        return (response[:, 0, 0] / response.mean((1, 2))).mean()

    def coarse(weight: Tensor) -> Tensor:
        response = torch.fft.fft2(weight[:, 0].double()).abs().mean(0)
        return response[0, 0] / response.mean()

    generator = _seeded()
    weights = [torch.randn(6, 1, 3, 3, generator=generator) for _ in range(3)]
    weights.append(torch.rand(4, 1, 3, 3, generator=generator))
    return check(
        answer,
        right,
        [(weight,) for weight in weights],
        [
            Mistake("divide the other way round", lambda w: 1 / right(w)),
            Mistake("after fftshift frequency 0 lies in the middle", shifted),
            Mistake("take absolute values before the mean over channels", signed),
            Mistake("that is the power; take the absolute value, not its square", power),
            Mistake("average over channels first, then divide", each),
            Mistake("pad to 33 x 33 frequencies: s=(33, 33)", coarse),
        ],
        read=lambda result, case: as_number(result),
        otherwise="|fft2(weight[:, 0], s=(33, 33))|, mean over channels, entry (0, 0) over mean",
        tolerance=1e-4,
    )
