"""Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174), right for layers with a state, too.

`torch.utils.checkpoint` computes a part of a network again on the way back. What moved when it was
first computed (averages of batch norm, the vectors of a spectral norm, a running prior) has moved
by then: the second time would start from elsewhere, and move it once more. Here the second time
starts from the same buffers as the first, and leaves none of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Buffers = dict[tuple[nn.Module, str], Tensor]


def checkpointed(function: Callable[..., Any], model: nn.Module, *args: Any) -> Any:
    """``function(*args)`` without keeping what its backward pass needs: that is computed again.

    Codebooks and counters that are marked by `gentok.nn.gather.once_a_step` must wait for the end
    of the step; so the step, backward pass included, stands in a `gentok.nn.gather.whole_step`.

    Args:
        function: such as ``model.loss``, or one block of a network.
        model: whose buffers it moves.

    Raises:
        RuntimeError: in the backward pass, if a marked layer moved and there was no ``whole_step``.
    """
    kept: Buffers = {}
    contexts = _first(model, kept), _Again(model, kept)
    return checkpoint(function, *args, use_reentrant=False, context_fn=lambda: contexts)


def _buffers(model: nn.Module) -> Buffers:
    return {
        (layer, name): value
        for layer in model.modules()
        for name, value in layer.named_buffers(recurse=False)
    }


@contextmanager
def _first(model: nn.Module, kept: Buffers) -> Iterator[None]:
    """Remember the buffers as they are before anything is computed."""
    kept.update({place: value.clone() for place, value in _buffers(model).items()})
    yield


class _Again:
    """Put copies of those buffers in place while it is computed again, as often as it is."""

    def __init__(self, model: nn.Module, kept: Buffers):
        self.model, self.kept = model, kept

    def __enter__(self) -> None:
        self.now = _buffers(self.model)
        for (layer, name), value in self.kept.items():
            layer._buffers[name] = value.clone()

    def __exit__(self, *error: object) -> None:
        for (layer, name), value in self.now.items():
            layer._buffers[name] = value
