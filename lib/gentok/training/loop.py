"""Training: one loop for every system, on one core or on many machines.

`fit` runs on Hugging Face accelerate, so the same call serves a laptop's CPU, one GPU, and several
GPUs or machines under ``accelerate launch``. Everything random in a step follows from
(seed, step, process) alone. A run that was killed therefore resumes exactly: same weights, same
losses, bit for bit on the same machine.
"""

import copy
import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import Tensor, nn

from gentok.nn.player import Player
from gentok.training import shard
from gentok.training.checkpoint import load_checkpoint, load_model, save
from gentok.training.run import Run, alone, forked_rng

__all__ = ["Fit", "fit", "load_checkpoint", "load_model", "save", "schedule_factor"]

SCHEDULES = ("constant", "cosine", "linear", "wsd")
PRECISIONS = ("no", "bf16")


@dataclass
class Fit:
    """What `fit` returns.

    Args:
        model: the trained model, in eval mode, on the device where it was trained. After sharded
            training it holds this process's slices: load the checkpoint to use it.
        ema: a copy with the averaged weights, or ``model`` itself if no average was asked for.
        history: a row every ``log_every`` steps: ``step`` (from 0), ``seconds`` since the start,
            ``lr``, ``loss`` and the loss's named parts; with several players each of these names
            stands behind the player's (``generator/loss``). ``pandas.DataFrame(history)`` plots.
        seconds: training time, earlier runs of a resumed training included.
    """

    model: nn.Module
    ema: nn.Module
    history: list[dict[str, float]]
    seconds: float


def fit(
    model: nn.Module,
    batches: Callable[[int], dict],
    *,
    steps: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    warmup: int = 0,
    schedule: Literal["constant", "cosine", "linear", "wsd"] = "constant",
    clip: float | None = 1.0,
    ema: float | None = None,
    accumulate: int = 1,
    precision: Literal["no", "bf16"] = "no",
    compile: bool = False,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    save_every: int | None = None,
    resume: bool = False,
    log_every: int = 10,
    progress: bool = True,
    on_step: Callable[[int, nn.Module], None] | None = None,
) -> Fit:
    """Train a model with AdamW; the model says what its loss is.

    The model has ``loss(batch, step)``, or ``players()`` if it plays an adversarial game; players
    move in turn, each with its own optimiser. Training runs where the model stands
    (``model.to("cuda")``); under ``accelerate launch`` each process takes its own such device.

    Args:
        model: what to train; parameters with ``requires_grad=False`` stay as they are.
        batches: ``batches(step)`` gives the whole batch of a step as a dictionary of tensors (or
            lists) of equal length; the same step must always give the same batch. Each process
            takes its share of the rows.
        steps: optimiser steps of each player, earlier runs of a resumed training included.
        lr: peak learning rate; ``betas`` and ``weight_decay`` are AdamW's, for all parameters.
        warmup: steps over which the learning rate rises from ``lr / warmup`` to ``lr``.
        schedule: what follows: ``"constant"``, or down towards 0 by ``"cosine"`` or ``"linear"``,
            or ``"wsd"``: constant, then linearly down over the last fifth of the steps.
        clip: largest gradient norm of a player, or None.
        ema: decay of an exponential average of the weights, in (0, 1), or None. It is
            min(ema, (1 + step) / (10 + step)), so that a short run forgets its random start.
        accumulate: micro-batches that a process cuts its share into, to save memory. The gradient
            is that of the whole batch if the loss is a mean over rows.
        precision: ``"bf16"`` computes in bfloat16 where that is safe (slow on most CPUs).
        compile: use ``torch.compile``.
        seed: makes the noise of all steps; the batches have a seed of their own.
        out: the checkpoint file to write, by convention ``<name>.safetensors``, or None.
        save_every: steps between checkpoints; a tenth of the run if None.
        resume: continue from ``out`` if it exists, else start at step 0.
        log_every: steps between rows of the history.
        progress: show a progress bar in a terminal or a notebook.
        on_step: called with (step, model) after each step.

    Raises:
        ValueError: if an argument is out of its range, the rows do not divide among the processes
            and micro-batches, or ``out`` holds another model or a run with other settings.
        FloatingPointError: if a loss or a weight is no longer finite; the last checkpoint is good.
        OSError: if a checkpoint cannot be written; the one before it is intact.
        KeyboardInterrupt: on Ctrl-C, after the step is complete and saved if ``out`` is given.
    """
    settings = {
        "steps": steps, "lr": lr, "betas": list(betas), "weight_decay": weight_decay,
        "warmup": warmup, "schedule": schedule, "clip": clip, "ema": ema,
        "accumulate": accumulate, "precision": precision, "seed": seed,
    }  # fmt: skip
    _check(settings, log_every, save_every, resume, out)
    players = _players(model)
    accelerator = _accelerator(model, precision)
    turns = _Turns(model.train(), players)
    if compile:
        turns.compile()
    average = model if ema is None else copy.deepcopy(model).requires_grad_(False)
    if shard.wanted():
        players = turns.players = _shard(turns, average, precision)
    else:
        turns = accelerator.prepare_model(turns)
    run = Run(accelerator, model, average, players, settings, out)
    start = run.resume() if resume else 0
    save_every = save_every or max(1, steps // 10)

    with forked_rng(accelerator), run.interruptible() as stop, run.bar(start, progress):
        # [core loop]
        for step in range(start, steps):
            _seed_noise(seed, step, accelerator.process_index)
            rate = lr * schedule_factor(step, steps, warmup, schedule)
            micro_batches = run.share(batches(step))
            for turn, player in enumerate(players):
                optimizer = run.optimizers[turn]
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with alone(player, players):  # the other players' parameters hold still
                    for i, batch in enumerate(micro_batches):
                        # Processes average their gradients once, with the last micro-batch.
                        last = i == len(micro_batches) - 1
                        with nullcontext() if last else accelerator.no_sync(turns):
                            loss, parts = turns(batch, step, turn)
                            accelerator.backward(loss / len(micro_batches))
                        run.note(player, loss, parts)
                if clip is not None:
                    nn.utils.clip_grad_norm_(player.parameters, clip)
                optimizer.step()
                optimizer.zero_grad()
            run.average(step)
            if step % log_every == 0 or step == steps - 1:
                run.log(step, rate)
            if on_step is not None:
                on_step(step, model)
                model.train()  # the hook may have drawn samples in eval mode
            if (step + 1) % save_every == 0 or step == steps - 1 or stop.is_set():
                run.save(step + 1)
            if stop.is_set():
                raise KeyboardInterrupt(f"stopped after {step + 1} of {steps} steps; saved {out}")
        # [end]
    return Fit(model.eval(), run.ema.eval(), run.history, run.seconds)


def schedule_factor(step: int, steps: int, warmup: int, schedule: str) -> float:
    """The learning rate of a step as a fraction of its peak, in (0, 1].

    A closed form of the step, so that a resumed run needs no scheduler state.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)  # [0, 1)
    return {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "linear": 1 - done,
        "wsd": min(1.0, 5 * (1 - step / steps)),
    }[schedule]


class _Turns(nn.Module):
    """All players' losses behind one ``forward``.

    Data-parallel training averages gradients through hooks on a module's ``forward``, and autocast
    and ``torch.compile`` start there too; a call of ``model.loss`` would pass all three by.
    """

    def __init__(self, model: nn.Module, players: list[Player]):
        super().__init__()
        self.model = model
        self.players = players

    def forward(self, batch: dict, step: int, turn: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.players[turn].loss(batch, step)


def _players(model: nn.Module) -> list[Player]:
    """The model's players, or the model itself as the only one."""
    if hasattr(model, "players"):
        players = model.players()
    elif hasattr(model, "loss"):
        players = [Player("", [p for p in model.parameters() if p.requires_grad], model.loss)]
    else:
        name = type(model).__name__
        raise ValueError(f"model: {name} has neither loss(batch, step) nor players()")
    taken: set[int] = set()
    for player in players:
        ids = {id(p) for p in player.parameters}
        if not ids or taken & ids:
            fault = "shares parameters with another player" if ids else "has nothing to train"
            raise ValueError(f"model: player {player.name or type(model).__name__!r} {fault}")
        taken |= ids
    return players


def _shard(turns: _Turns, average: nn.Module, precision: str) -> list[Player]:
    """Slice the model and its average; returns the player with the slices as its parameters."""
    model = turns.model
    if len(turns.players) > 1:
        names = [player.name for player in turns.players]
        raise ValueError(f"sharded training takes one player, the model has {names}")
    if average is not model:
        shard.shard(average)
    shard.shard(turns, precision)
    return _players(model)


def _accelerator(model: nn.Module, precision: str) -> Accelerator:
    """Join the processes that were launched, on the kind of device where the model stands."""
    # Accelerate keeps its settings for the whole process; each fit brings its own.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    on_cpu = next(model.parameters()).device.type == "cpu"
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision=precision,
        # In one player's turn the parameters of the others get no gradient, and a loss may leave
        # out a branch of the network in some steps.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    kinds = ("NO", "MULTI_GPU", "MULTI_CPU", "FSDP")
    if accelerator.distributed_type not in [DistributedType[kind] for kind in kinds]:
        raise ValueError(
            f"accelerate was configured for {accelerator.distributed_type.value}, "
            f"accepted: one process, {', '.join(kinds[1:])}"
        )
    if shard.wanted() and accelerator.num_processes == 1:
        raise ValueError("sharded training needs two processes or more, see --num_processes")
    return accelerator


def _seed_noise(seed: int, step: int, process: int) -> None:
    """Make all that torch draws in this step a function of (seed, step, process)."""
    state = np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))


def _check(
    settings: dict[str, Any],
    log_every: int,
    save_every: int | None,
    resume: bool,
    out: str | os.PathLike | None,
) -> None:
    """Refuse arguments out of their range, naming the first."""
    least = {"steps": 1, "accumulate": 1, "warmup": 0, "weight_decay": 0, "seed": 0}
    for name, bound in least.items():
        if settings[name] < bound:
            raise ValueError(f"{name} must be at least {bound}, got {settings[name]}")
    for name, value in (("log_every", log_every), ("save_every", save_every)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not settings["lr"] > 0:
        raise ValueError(f"lr must be above 0, got {settings['lr']}")
    if settings["clip"] is not None and not settings["clip"] > 0:
        raise ValueError(f"clip must be above 0 or None, got {settings['clip']}")
    if settings["ema"] is not None and not 0 < settings["ema"] < 1:
        raise ValueError(f"ema must lie between 0 and 1, or be None; got {settings['ema']}")
    if settings["schedule"] not in SCHEDULES:
        raise ValueError(f"unknown schedule {settings['schedule']!r}; accepted: {SCHEDULES}")
    if settings["precision"] not in PRECISIONS:
        raise ValueError(f"unknown precision {settings['precision']!r}; accepted: {PRECISIONS}")
    if resume and out is None:
        raise ValueError("resume=True needs out, the checkpoint to continue from")
