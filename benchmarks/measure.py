"""Time two ways of doing the same work, turn by turn, and report their ratio.

Machines differ and neighbours come and go; a ratio from interleaved rounds survives both. Processor
time of this process is counted, not the clock on the wall, so a busy neighbour hardly shows.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

Work = Callable[[], object]


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
        name: what is computed, with its sizes.
        peer: the package and class that does the same work.
        bar: smallest acceptable ratio (peer's time / ours); 1.0 is a tie.
        make: builds both sides and returns (ours, peer); may raise ImportError.
    """

    name: str
    peer: str
    bar: float
    make: Callable[[], tuple[Work, Work]]


@dataclass(frozen=True)
class Row:
    """A measured workload: medians in milliseconds; ``low``, ``high`` bound the rounds' ratios."""

    name: str
    peer: str
    bar: float
    ours_ms: float
    peer_ms: float
    ratio: float
    low: float
    high: float


def _seconds(work: Work, repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def run(workload: Workload, rounds: int = 7, round_seconds: float = 0.4) -> Row:
    """Measure one workload.

    Args:
        rounds: how often each side has its turn.
        round_seconds: rough processor time of one turn; short work is repeated to fill it.

    Raises:
        ImportError: if the peer is not installed.
    """
    ours, peer = workload.make()
    ours(), peer()  # first calls allocate and choose kernels
    repeats = {work: max(1, round(round_seconds / _seconds(work, 1))) for work in (ours, peer)}
    gc.collect()
    gc.disable()
    try:
        turns = [
            (_seconds(ours, repeats[ours]), _seconds(peer, repeats[peer])) for _ in range(rounds)
        ]
    finally:
        gc.enable()
    ratios = sorted(theirs / mine for mine, theirs in turns)
    return Row(
        name=workload.name,
        peer=workload.peer,
        bar=workload.bar,
        ours_ms=1000 * statistics.median(mine for mine, _ in turns),
        peer_ms=1000 * statistics.median(theirs for _, theirs in turns),
        ratio=statistics.median(ratios),
        low=ratios[0],
        high=ratios[-1],
    )


def backward(forward: Callable[[], torch.Tensor], module: nn.Module) -> Work:
    """Forward, then backward, with fresh gradients."""

    def work() -> None:
        module.zero_grad(set_to_none=True)
        forward().backward()

    return work
