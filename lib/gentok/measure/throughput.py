"""How much of a device's arithmetic a training uses."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from gentok.measure.cost import count_flops


@dataclass(frozen=True)
class Share:
    """A training's arithmetic beside the device's best.

    Attributes:
        training: FLOP/s of forward and backward passes, recomputation and elementwise work not
            counted.
        peak: FLOP/s of one large matrix product in the same precision, measured, not printed on
            the box.
        seconds: of one step.
    """

    training: float
    peak: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.training / self.peak:.0%} of the matrix peak "
            f"({self.training / 1e12:.3g} of {self.peak / 1e12:.3g} TFLOP/s, "
            f"{self.seconds:.3g} s a step)"
        )


def training_share(model: nn.Module, batch: dict, steps: int = 10, size: int = 8192) -> Share:
    """Measure optimiser steps in bfloat16 against one matrix product.

    Args:
        model: with ``loss(batch)``, on its device; its weights are changed.
        batch: rows on the same device.
        steps: that are timed, after two that are not.
        size: of the square matrices whose product is the peak.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss, _ = model.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def both_ways() -> None:
        model.loss(batch)[0].backward()

    flops = count_flops(both_ways)
    optimizer.zero_grad()
    seconds = _seconds(step, device, steps)
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    peak = 2 * size**3 / _seconds(lambda: matrix @ matrix, device, steps)
    return Share(flops / seconds, peak, seconds)


def _seconds(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Of one call, on average; what a GPU still has to do counts."""
    for _ in range(2):
        work()
    _wait(device)
    start = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - start) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
