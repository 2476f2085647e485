"""How long calls take, side by side, so that a busy machine slows all of them alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def latencies(
    calls: Mapping[str, Callable[[], Any]], repeats: int = 20, warmup: int = 3
) -> dict[str, list[float]]:
    """Seconds of each call, measured in turns: a, b, a, b, ...

    A machine that grows hot or busy then does so for all, and the median of the ratios within a
    turn says more than the ratio of two means. On a GPU the device is waited for.

    Args:
        calls: name -> a function without arguments.
        repeats: turns that are measured; ``warmup`` turns before them are not.

    Returns:
        name -> ``repeats`` durations, turn by turn.

    Raises:
        ValueError: if there is no call, or ``repeats`` is below 1.
    """
    if not calls or repeats < 1:
        raise ValueError(f"need calls and repeats >= 1, got {list(calls)} and {repeats}")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            _wait()
            start = time.perf_counter()
            call()
            _wait()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait() -> None:
    """Let the GPU, if there is one in use, finish what it was given."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
