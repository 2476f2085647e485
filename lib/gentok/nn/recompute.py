"""Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174) that moves no state a second time.

`torch.utils.checkpoint` computes layers again on the way back. What a layer averages over batches
would then be averaged twice: PyTorch's batch norm does so in silence. The codebooks and counters of
this library wait for the end of a step instead (`gentok.nn.gather.whole_step`).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gentok.nn.gather import _going_back, moves_once, whole_step


@contextmanager
def computed_again(model: nn.Module) -> Iterator[None]:
    """A training step, backward pass included, in which parts of ``model`` are checkpointed.

    Batch norm keeps the running averages of the first time; layers of this library that are marked
    by `gentok.nn.gather.once_a_step` move once, when the block ends.

    Raises:
        RuntimeError: if blocks are nested.
    """
    with ExitStack() as held:
        for layer in model.modules():
            averages = isinstance(layer, _BatchNorm) and layer.track_running_stats
            if averages and not moves_once(layer):
                held.enter_context(_averages_once(layer))
        held.enter_context(whole_step())
        yield


@contextmanager
def _averages_once(layer: _BatchNorm) -> Iterator[None]:
    """The second time a momentum of 0 leaves the averages where they are."""
    momentum = layer.momentum

    def before(layer: _BatchNorm, args: tuple) -> None:
        if layer.training and _going_back():
            layer.momentum = 0.0

    def after(layer: _BatchNorm, args: tuple, out: object) -> None:
        if layer.training and _going_back():
            layer.momentum = momentum
            layer.num_batches_tracked.sub_(1)

    hooks = layer.register_forward_pre_hook(before), layer.register_forward_hook(after)
    try:
        yield
    finally:
        layer.momentum = momentum
        for hook in hooks:
            hook.remove()
