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

from gentok.measure.cost import count_flops

Work = Callable[[], object]


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
        name: what is computed, with its sizes.
        peer: the package and class that does the same work.
        bar: smallest acceptable ratio (peer's time / ours); 1.0 is a tie.
        make: builds both sides and returns (ours, peer); may raise ImportError.
        training: a forward and backward pass, whose share of the machine's peak is stated.
        items: files or rows that a reader reads in one go; 0 for what is no reader.
    """

    name: str
    peer: str
    bar: float
    make: Callable[[], tuple[Work, Work]]
    training: bool = False
    items: int = 0


@dataclass(frozen=True)
class Row:
    """A measured workload: medians in milliseconds; ``low``, ``high`` bound the rounds' ratios.

    ``share`` is our rate of floating-point operations over that of a large matrix product in the
    same run, which convolutions may surpass; None where the row is no training. ``items`` is how
    many we read a second, None where the row is no reader.
    """

    name: str
    peer: str
    bar: float
    ours_ms: float
    peer_ms: float
    ratio: float
    low: float
    high: float
    share: float | None = None
    items: float | None = None


def _seconds(work: Work, repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def gemm_rate(size: int = 1024, rounds: int = 5) -> float:
    """Floating-point operations a second of a large float32 matrix product, the best round's."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    return 2 * size**3 / min(_seconds(lambda: a @ b, 2) for _ in range(rounds))


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
    seconds = statistics.median(mine for mine, _ in turns)
    share = count_flops(ours) / seconds / gemm_rate() if workload.training else None
    ratios = sorted(theirs / mine for mine, theirs in turns)
    return Row(
        name=workload.name,
        peer=workload.peer,
        bar=workload.bar,
        ours_ms=1000 * seconds,
        peer_ms=1000 * statistics.median(theirs for _, theirs in turns),
        ratio=statistics.median(ratios),
        low=ratios[0],
        high=ratios[-1],
        share=share,
        items=workload.items / seconds if workload.items else None,
    )


def backward(forward: Callable[[], torch.Tensor], module: nn.Module) -> Work:
    """Forward, then backward, with fresh gradients."""

    def work() -> None:
        module.zero_grad(set_to_none=True)
        forward().backward()

    return work
