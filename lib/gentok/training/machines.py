"""Several processes that act as one: the first decides, and all of them hear what came of it.

A process that fails by itself leaves the others waiting in the next exchange. So whatever may fail
in one place (a file that only the first machine has, a full disk, a request to stop) is done or
seen by one process and told to all; then all go on, or all stop with the same message.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, distributed

T = TypeVar("T")
ERRORS = {
    kind.__name__: kind for kind in (ValueError, OSError, FileNotFoundError, FloatingPointError)
}


def join(on_cpu: bool) -> PartialState:
    """Meet the other processes of a launch; alone if there are none."""
    return PartialState(cpu=on_cpu)


def launched() -> int:
    """The number of processes that were launched together, by the launcher's word."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def agreed(action: Callable[[], T]) -> T:
    """What the action returns in the first process, in every process; so does its error.

    Args:
        action: returns something small; of the processes only the first calls it.

    Raises:
        ValueError, OSError, FloatingPointError: as the action did; any other error of the first
            process reaches the others as RuntimeError.
    """
    if not distributed.is_initialized():
        return action()
    outcome, failure = [None, None, None], None
    if distributed.get_rank() == 0:
        try:
            outcome[0] = action()
        except Exception as error:
            failure = error
            outcome[1:] = type(error).__name__, str(error)
    broadcast_object_list(outcome)
    value, kind, message = outcome
    if failure is not None:
        raise failure
    if kind is not None:
        raise ERRORS.get(kind, RuntimeError)(message)
    return value


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process."""
    if not distributed.is_initialized():
        return flag
    count = torch.tensor(float(flag), device=device)
    distributed.all_reduce(count)
    return count.item() > 0


def from_first(tensors: dict[str, Tensor] | None, device: torch.device) -> dict[str, Tensor]:
    """The first process's tensors, in every process, on the CPU.

    Args:
        tensors: of the first process; the others give None.
        device: over which the processes speak.
    """
    if not distributed.is_initialized():
        return tensors
    main = distributed.get_rank() == 0
    outline = [{n: (t.shape, t.dtype) for n, t in tensors.items()} if main else None]
    broadcast_object_list(outline)
    received = {}
    for name, (shape, dtype) in outline[0].items():
        value = tensors[name] if main else torch.empty(shape, dtype=dtype)
        flat = value.contiguous().reshape(-1).view(torch.uint8).to(device)  # any kind of number
        distributed.broadcast(flat, src=0)
        received[name] = value if main else flat.cpu().view(dtype).reshape(shape)
    return received


def check_shared(folder: Path, why: str) -> None:
    """Refuse, in all processes, to go on where the machines do not see one and the same folder.

    Raises:
        ValueError: if a process does not see what the first one writes there.
    """
    if not distributed.is_initialized():
        return
    mark = None
    if distributed.get_rank() == 0:
        number, mark = tempfile.mkstemp(prefix=".gentok-", dir=folder)
        os.close(number)
    try:
        name = [mark and Path(mark).name]
        broadcast_object_list(name)
        seen = gather_object([(folder / name[0]).is_file()])
    finally:
        if mark is not None:
            os.unlink(mark)
    if not all(seen):
        raise ValueError(f"{why}, and not every machine sees the same folder {folder}")
