"""What a network costs: parameters, floating-point operations, memory."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module, trainable: bool = False) -> int:
    """Number of parameters; a tensor that two layers share counts once, buffers do not count.

    Args:
        model: any module, on any device, the meta device included.
        trainable: count only parameters that receive gradients.
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def count_flops(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Floating-point operations of one call, by PyTorch's own counter.

    A multiplication and an addition count as two, so FLOPs = 2 x MACs (papers often print MACs
    under the name FLOPs). Matrix products, convolutions and attention are counted; normalisation,
    activations, softmax and other elementwise work are not. Attention counts in full even under a
    causal mask. Backward passes count if ``function`` runs one. On the meta device the count costs
    no arithmetic and no memory for activations.

    Args:
        function: a module, or any callable; ``args`` and ``kwargs`` are given to it.
    """
    counter = FlopCounterMode(display=False)
    # The plain kernel is made of matrix products, which are counted on every device; of the fused
    # ones, not all are.
    with sdpa_kernel(SDPBackend.MATH), counter:
        function(*args, **kwargs)
    return counter.get_total_flops()


def peak_memory() -> float:
    """Most main memory that this process has held so far, MiB, on Linux, macOS and Windows."""
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows; elsewhere psutil knows the present size only
        return memory.peak_wset / 2**20
    if sys.platform == "linux":
        # Not `resource`: there a process inherits the peak of the one that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10  # of KiB
    import resource  # not there on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of bytes, on macOS
