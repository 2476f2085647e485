"""State that moves once an optimiser step, although the step's batch comes in parts.

Some layers move state of their own while they compute: codebooks follow the latents that choose
them, a sparse autoencoder counts how long a feature has been silent. If a batch is cut into
micro-batches to save memory, such state would move once a part: moving averages would forget
several times too fast, and the later parts would meet another codebook than the first.

A method that moves state by a batch's rows is marked with :func:`once_a_step`. It then acts at once
as ever, except inside a :func:`whole_step` block: there its calls wait, and at the end of the block
each runs a single time on the rows of all its calls. The state is that of the whole batch.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# (method, object) -> the rows of each call, in order of the first call; None outside of a block.
# The order matters: layers that draw random numbers draw them as they would for a whole batch.
_waiting: dict[tuple[Callable, Any], list[tuple[Tensor, ...]]] | None = None


def once_a_step(method: Callable[..., None]) -> Callable[..., None]:
    """Mark a method whose arguments are tensors of rows, and which moves its object's state.

    Args:
        method: ``method(self, *rows)``; the first axis of each argument counts rows. It must not
            return anything, since inside a block it has not run yet when the call returns.

    Gradient checkpointing computes a layer a second time, on the way back. Inside a block the
    second call adds nothing. Outside of one the state has moved in between, and the layer would
    compute something else than the first time: RuntimeError.
    """

    @functools.wraps(method)
    def gathered(self: Any, *rows: Tensor) -> None:
        if _going_back():
            if _waiting is None:
                raise RuntimeError(
                    f"{type(self).__name__} has moved its state since gradient checkpointing first "
                    "ran it; leave it out of the checkpointed part, or compute inside whole_step"
                )
        elif _waiting is None:
            method(self, *rows)
        else:
            _waiting.setdefault((method, self), []).append(tuple(r.detach() for r in rows))

    gathered.moves_once = True
    return gathered


def _going_back() -> bool:
    """Whether the code runs inside a backward pass."""
    # As torch.utils.checkpoint itself asks. A compiled graph has no forward in its backward.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def moves_once(layer: Any) -> bool:
    """Whether an object's class, or one that it inherits from, has a marked method."""
    members = (value for kind in type(layer).__mro__ for value in vars(kind).values())
    return any(getattr(value, "moves_once", False) is True for value in members)


def distributed() -> bool:
    """Whether several processes train together, each with rows of its own."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def waiting() -> bool:
    """Whether the code runs inside a :func:`whole_step` block."""
    return _waiting is not None


@contextmanager
def whole_step() -> Iterator[None]:
    """Let the marked methods wait until the block ends; after an exception they do not run.

    Raises:
        RuntimeError: if blocks are nested.
    """
    global _waiting
    if _waiting is not None:
        raise RuntimeError("a whole_step block is already open")
    _waiting = {}
    try:
        yield
        calls = _waiting
    finally:
        _waiting = None
    for (method, layer), parts in calls.items():
        method(layer, *(torch.cat(rows) for rows in zip(*parts, strict=True)))
