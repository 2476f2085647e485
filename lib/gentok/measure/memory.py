"""How much memory a call needs: what autograd keeps for the backward pass, and the process's peak.

What autograd keeps is exact and the same on every machine. The peak of the process holds buffers of
kernels and the allocator's slack too, and is measured by looking at it often, so it is a number
with noise: measure it in a fresh process.
"""

import threading
from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch import Tensor


def saved_bytes(function: Callable[[], Any]) -> int:
    """Bytes that autograd keeps between a forward pass and its backward pass.

    A storage that several operations keep counts once. Parameters, which are there anyway, count
    as soon as an operation keeps them.

    Args:
        function: runs the forward pass.
    """
    storages: dict[int, int] = {}
    kept: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return sum(storages.values())


def peak_rise(function: Callable[[], Any], every: float = 0.002) -> float:
    """By how much the process's main memory rises above its start during a call, at most, in MiB.

    Args:
        function: what to call.
        every: seconds between two looks; a peak that is shorter may be missed.
    """
    process = psutil.Process()
    start = most = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(every):
            most = max(most, process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        function()
        most = max(most, process.memory_info().rss)
    finally:
        done.set()
        thread.join()
    return (most - start) / 2**20
