"""Checks of the Step-Video chapter's exercises."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.book.checks import Arguments, Mistake, Unfit, Verdict, as_array, as_number, check
from gentok.nn.conv3d import average_channels, pixel_unshuffle_3d
from gentok.video.step_video.model import sampling_times


def _seeded(seed: int = 0) -> torch.Generator:
    """Numbers of a check never move the numbers of the page."""
    return torch.Generator().manual_seed(seed)


def _number(result: Any, case: Arguments) -> Tensor:
    return as_number(result)


def latent_frames(answer: Callable) -> Verdict:
    """``latent_frames(frames)``: of version 2, for whole chunks and a rest of 8 k + 1 frames."""

    def right(frames: int) -> int:
        chunks, rest = divmod(frames, 17)
        return 3 * chunks + ((rest - 1) // 8 + 1 if rest else 0)

    return check(
        answer,
        right,
        [(n,) for n in (1, 9, 17, 18, 26, 34, 204)],
        [
            Mistake("chunks do not share frames", lambda n: math.ceil(n / 8)),
            Mistake("chunks do not share frames", lambda n: (n - 1) // 8 + 1),
            Mistake(
                "the frames behind the last whole chunk have latents, too", lambda n: 3 * (n // 17)
            ),
            Mistake(
                "one frame alone still needs a latent", lambda n: 3 * (n // 17) + (n % 17) // 8
            ),
            Mistake("a rest is shorter than a chunk", lambda n: 3 * math.ceil(n / 17)),
            Mistake("version 2 halves time three times: 17, 9, 5, 3", lambda n: 5 * (n // 17)),
        ],
        read=_number,
        otherwise="3 for each whole chunk of 17, and (rest - 1) / 8 + 1 if there is a rest",
    )


def shortcut(answer: Callable) -> Verdict:
    """``shortcut(x, channels)``: h_avg of (B, C, t, h, w), t odd: (B, channels, (t+1)/2, h/2, w/2).

    The eight phases of a source channel are neighbours, in the order frame, row, column.
    """

    def right(x: Tensor, channels: int) -> Tensor:
        return average_channels(pixel_unshuffle_3d(x, 2), channels)

    def late(x: Tensor, channels: int) -> Tensor:
        """The zero frame at the end: blocks of frames 0 1, 2 3, ..."""
        x = F.pad(x, (0, 0, 0, 0, 0, 1))
        x = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        return average_channels(x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4), channels)

    def strided(x: Tensor, channels: int) -> Tensor:
        """Means of channels that lie far apart, not of neighbours."""
        return pixel_unshuffle_3d(x, 2).unflatten(1, (-1, channels)).mean(1)

    def summed(x: Tensor, channels: int) -> Tensor:
        return right(x, channels) * (8 * x.shape[1] // channels)

    def replicated(x: Tensor, channels: int) -> Tensor:
        padded = torch.cat([x[:, :, :1], x], 2)
        padded = padded.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        return average_channels(padded.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4), channels)

    generator = _seeded()
    cases = [
        (torch.randn(2, c, t, 4, 6, generator=generator), channels)
        for c, t, channels in ((4, 5, 16), (6, 3, 12), (2, 5, 4))
    ]
    return check(
        answer,
        right,
        cases,
        [
            Mistake("the zero frame stands in front, not behind", late),
            Mistake("the frame in front is zero, not a copy of the first", replicated),
            Mistake("average *neighbouring* channels: phases of one source channel", strided),
            Mistake("average the channels of a group; do not add them", summed),
            Mistake(
                "that is the unshuffle alone; groups of channels are averaged",
                lambda x, channels: pixel_unshuffle_3d(x, 2),
            ),
        ],
        otherwise="a zero frame in front, unshuffle by 2, then means of neighbouring channels",
    )


def winner_gradient(answer: Callable) -> Verdict:
    """``winner_gradient(w, l, ref_w, ref_l, beta)``: derivative of the DPO loss by the error w."""

    def margin(w: float, lose: float, ref_w: float, ref_l: float) -> float:
        return (ref_w - w) - (ref_l - lose)

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    def right(w: float, lose: float, ref_w: float, ref_l: float, beta: float) -> float:
        return beta * sigmoid(-beta * margin(w, lose, ref_w, ref_l))

    return check(
        answer,
        right,
        [
            (0.8, 1.1, 0.9, 0.9, 5.0),
            (0.5, 0.5, 0.5, 0.5, 20.0),
            (1.2, 0.7, 0.9, 1.0, 2.0),
            (0.3, 0.9, 0.4, 0.6, 8.0),
        ],
        [
            Mistake("the sign: a lower error of the winner is better", lambda *a: -right(*a)),
            Mistake(
                "the inner derivative has a factor beta", lambda *a: sigmoid(-a[4] * margin(*a[:4]))
            ),
            Mistake(
                "pairs that are told apart should push *less*: sigmoid(-beta margin)",
                lambda *a: a[4] * sigmoid(a[4] * margin(*a[:4])),
            ),
            Mistake(
                "that is the loss; differentiate it by w",
                lambda *a: -math.log(sigmoid(a[4] * margin(*a[:4]))),
            ),
            Mistake(
                "the margin holds the model against its reference",
                lambda *a: a[4] * sigmoid(-a[4] * (a[1] - a[0])),
            ),
            Mistake(
                "beta stands inside the sigmoid, too",
                lambda *a: a[4] * sigmoid(-margin(*a[:4])),
            ),
        ],
        read=_number,
        otherwise="the derivative of -log sigmoid(x) is -sigmoid(-x); then the chain rule",
    )


def bent_times(answer: Callable) -> Verdict:
    """``bent_times(num_steps, shift)``: the N + 1 times from 0 (noise) to 1 (data)."""

    def levels(num_steps: int, shift: float) -> Tensor:
        return 1 - sampling_times(num_steps, shift)

    def forwards(num_steps: int, shift: float) -> Tensor:
        t = torch.linspace(0, 1, num_steps + 1)
        return shift * t / (1 + (shift - 1) * t)

    def read(result: Any, case: Arguments) -> Tensor:
        times = as_array(result)
        if times.ndim != 1:
            raise Unfit(f"return one row of times, not shape {tuple(times.shape)}")
        return times

    return check(
        answer,
        lambda num_steps, shift: sampling_times(num_steps, shift),
        [(10, 13.0), (4, 1.0), (15, 17.0), (8, 3.0)],
        [
            Mistake("these are noise levels; times are 1 minus them", levels),
            Mistake("you bent times; the formula bends noise levels 1 - t", forwards),
            Mistake("times run from 0 to 1", lambda n, s: sampling_times(n, s).flip(0)),
            Mistake(
                "N steps have N + 1 times: 1 is missing", lambda n, s: sampling_times(n, s)[:-1]
            ),
            Mistake(
                "N steps have N + 1 times: 0 is missing", lambda n, s: sampling_times(n, s)[1:]
            ),
            Mistake(
                "N steps have N + 1 times, so N intervals", lambda n, s: sampling_times(n - 1, s)
            ),
            Mistake(
                "these are the steps; add them up",
                lambda n, s: sampling_times(n, s).diff(),
            ),
            Mistake("without the shift; bend the levels", lambda n, s: torch.linspace(0, 1, n + 1)),
        ],
        read=read,
        otherwise="levels from 1 to 0 in equal steps, bent by s a / (1 + (s - 1) a), then 1 minus",
        tolerance=1e-5,
    )
