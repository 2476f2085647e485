"""What holds while a block runs: whose gradients flow, modes, random numbers, requests to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch._functorch import config as functorch

from gentok.nn.player import Player

# What asks a run to stop; Windows has no SIGHUP.
REQUESTS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def alone(player: Player, players: list[Player]) -> Iterator[None]:
    """Give gradients to one player's parameters alone while the block runs."""
    others = [p for other in players if other is not player for p in other.parameters]
    held = [p for p in others if p.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


@contextmanager
def looking(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients while the block runs.

    The flags are set one by one: a model's own ``train`` may do more, such as scale its weights.
    """
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def kept_buffers(compiled: bool) -> Iterator[None]:
    """Let a compiled loss be differentiated twice while the block runs.

    A loss may take gradients on its way, as the adaptive weight of a VQGAN's adversary does. Code
    that PyTorch compiles gives the memory of its inner values away in the first backward pass,
    unless it is told to keep it.
    """
    with functorch.patch(donated_buffer=False) if compiled else nullcontext():
        yield


@contextmanager
def forked_rng(accelerator: Accelerator) -> Iterator[None]:
    """Leave the caller's random generators as they were."""
    cuda = accelerator.device.type == "cuda"
    with torch.random.fork_rng(devices=[accelerator.device] if cuda else []):
        yield


@contextmanager
def requests_held(wanted: bool) -> Iterator[threading.Event]:
    """Turn the first request to stop into an event, so that the step can end and be saved.

    Requests are Ctrl-C and what clusters and terminals send before they end a process (SIGTERM,
    SIGHUP). A second one stops at once. If it is not wanted, or outside the main thread (where
    Python takes no signals), nothing changes.
    """
    stop = threading.Event()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in REQUESTS}
    # What nohup had set to be ignored stays so; Ctrl-C is held also in a job started in the
    # background, which a shell starts deaf to it.
    before = {
        number: handler
        for number, handler in before.items()
        if number == signal.SIGINT or handler is not signal.SIG_IGN
    }

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, frame: Any) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, hold)
    try:
        yield stop
    finally:
        restore()
