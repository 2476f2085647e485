"""Training: one loop for every system, on one core or on many machines.

`fit` runs on Hugging Face accelerate, so the same call serves a laptop's CPU, one GPU, and several
GPUs or machines under ``accelerate launch``. Everything random in a step follows from
(seed, step, process) alone. A run that was killed therefore resumes exactly: same weights, same
losses, bit for bit on the same machine.
"""

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import Tensor, nn

from gentok.nn.ghost_norm import GhostBatchNorm2d
from gentok.nn.player import Player
from gentok.training import shard
from gentok.training.checkpoint import load_checkpoint, save
from gentok.training.contexts import alone, forked_rng, kept_buffers
from gentok.training.loading import load_model
from gentok.training.parameter_groups import ParameterGroup, check_groups, decay_groups, set_rate
from gentok.training.run import Run
from gentok.training.schedules import Schedule, check_schedule, schedule_factor

__all__ = [
    "Fit",
    "ParameterGroup",
    "Schedule",
    "decay_groups",
    "fit",
    "load_checkpoint",
    "load_model",
    "save",
    "schedule_factor",
]

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
            stands behind the player's (``generator/loss``). A row of a step that was evaluated has
            the columns of ``evaluate`` behind ``eval/``, too. ``pandas.DataFrame(history)`` plots.
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
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float | None = None,
    groups: list[ParameterGroup] | None = None,
    warmup: int = 0,
    schedule: Literal["constant", "cosine", "linear", "wsd"]
    | Schedule
    | Callable[[int], float] = "constant",
    clip: float | None = None,
    ema: float | Callable[[int], float] | None = None,
    accumulate: int = 1,
    precision: Literal["no", "bf16"] = "no",
    compile: bool = False,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    save_every: int | None = None,
    resume: bool = False,
    after: str | os.PathLike | None = None,
    log_every: int = 10,
    progress: bool = True,
    on_step: Callable[[int, nn.Module], None] | None = None,
    evaluate: Callable[[int, nn.Module], dict[str, float]] | None = None,
    evaluate_every: int | None = None,
) -> Fit:
    """Train a model with AdamW, or SGD; the model says what its loss is.

    The model has ``loss(batch, step)``, or ``players()`` if it plays an adversarial game; players
    move in turn, each with its own optimiser. A model whose loss looks at the average of its own
    weights has ``set_teacher(average)``: it receives the average, in eval mode, before the first
    step, and None at the end. Training runs where the model stands (``model.to("cuda")``); under
    ``accelerate launch`` each process takes its own such device.

    Args:
        model: what to train; parameters with ``requires_grad=False`` stay as they are.
        batches: ``batches(step)`` gives the whole batch of a step as a dictionary of tensors (or
            lists) of equal length; the same step must always give the same batch. Each process
            takes its share of the rows; from a source that has ``part(step, index, count)``, such
            as `gentok.data.folder_batches` makes, it asks for no others.
        steps: optimiser steps of each player, earlier runs of a resumed training included.
        lr: peak learning rate; ``betas``, ``eps`` and ``weight_decay`` are AdamW's.
        momentum: of SGD in AdamW's place (``betas`` and ``eps`` then play no part, and weight decay
            is added to the gradient), in (0, 1), or None for AdamW.
        groups: parameters with a weight decay or a learning rate of their own, such as
            `decay_groups` makes; those in no group follow ``lr`` and ``weight_decay``.
        warmup: steps over which the learning rate rises from ``lr / warmup`` to ``lr``.
        schedule: what follows: ``"constant"``, or down towards 0 by ``"cosine"`` or ``"linear"``,
            or ``"wsd"``: constant, then linearly down over the last fifth of the steps. A
            `Schedule` has a floor, a start and an end; a function gives the fraction of ``lr`` at
            a step, its own warm-up included.
        clip: largest gradient norm of a player; None does not clip.
        ema: decay of an exponential average of the weights, in (0, 1), or None. It is
            min(ema, (1 + step) / (10 + step)), so that a short run forgets its random start. A
            function of the step gives the decay itself.
        accumulate: micro-batches that a process cuts its share into, to save memory. The gradient
            is that of the whole batch if the loss is a mean over rows, and state that layers move
            in training moves once a step, by all rows (see `gentok.nn.gather`).
        precision: ``"bf16"`` computes in bfloat16 where that is safe (slow on most CPUs).
        compile: use ``torch.compile``.
        seed: makes the noise of all steps; the batches have a seed of their own.
        out: the checkpoint file to write, by convention ``<name>.safetensors``, or None.
        save_every: steps between checkpoints; a tenth of the run if None.
        resume: continue from ``out`` if it exists, else start at step 0.
        after: the checkpoint of the stage that this one is trained on, or None. Its digest is kept,
            so that files of two runs are not put together.
        log_every: steps between rows of the history.
        progress: show a progress bar in a terminal or a notebook.
        on_step: called with (step, model) after each step.
        evaluate: measures something every ``evaluate_every`` steps and after the last; called with
            the step and the averaged model (the model itself if there is no average), in eval mode
            and without gradient. Noise that it draws does not change the training.
        evaluate_every: steps between evaluations.

    Raises:
        ValueError: if an argument is out of its range, the rows do not divide among the processes
            and micro-batches, ``out`` is damaged, is being written by another process, or holds
            another model or a run with other settings, or ``accumulate`` is above 1 and a layer
            cannot give the whole batch's result.
        FloatingPointError: if a loss or a weight is no longer finite; the last checkpoint is good.
        OSError: if a checkpoint cannot be written; the one before it is intact.
        KeyboardInterrupt: on Ctrl-C, after the step is complete and saved if ``out`` is given; with
            ``out`` also on SIGTERM and SIGHUP.
    """
    settings = {
        "steps": steps, "lr": lr, "betas": list(betas), "eps": eps, "weight_decay": weight_decay,
        "warmup": warmup, "schedule": schedule, "clip": clip, "ema": ema,
        "accumulate": accumulate, "precision": precision, "seed": seed, "groups": groups,
        "momentum": momentum,
    }  # fmt: skip
    intervals = {"log_every": log_every, "save_every": save_every, "evaluate_every": evaluate_every}
    _check(settings, intervals, resume, out)
    if (evaluate is None) != (evaluate_every is None):
        raise ValueError("evaluate and evaluate_every go together: what to measure, and how often")
    check_groups(model, groups or [])
    players = _players(model)
    accelerator = _accelerator(model, precision)
    turns = _Turns(model.train(), players)
    if compile:
        turns.compile()
    if accumulate > 1:
        _check_parts(model)
    average = model if ema is None else _average(model)
    if shard.wanted():
        players = turns.players = _shard(turns, average, precision)
    else:
        turns = accelerator.prepare_model(turns)
    run = Run(accelerator, model, average, players, settings, out, after)
    save_every = save_every or max(1, steps // 10)

    with (
        run.writing(resume) as start,
        forked_rng(accelerator),
        kept_buffers(compile),
        run.interruptible() as stop,
        run.shown(start, progress, log_every),
        _taught(model, average),
    ):
        # [core loop]
        for step in range(start, steps):
            _seed_noise(seed, step, accelerator.process_index)
            rate = lr * schedule_factor(step, steps, warmup, schedule)
            micro_batches = run.share(batches, step)
            for turn, player in enumerate(players):
                optimizer = run.optimizers[turn]
                set_rate(optimizer, rate)
                # The other players' parameters hold still; what layers move of themselves moves
                # once, by the rows of all micro-batches.
                with alone(player, players), run.one_step():
                    for i, batch in enumerate(micro_batches):
                        # Processes average their gradients once, with the last micro-batch.
                        final = i == len(micro_batches) - 1
                        with nullcontext() if final else accelerator.no_sync(turns):
                            loss, parts = turns(batch, step, turn)
                            accelerator.backward(loss / len(micro_batches))
                        run.note(player, loss, parts)
                if clip is not None:
                    nn.utils.clip_grad_norm_(player.parameters, clip)
                optimizer.step()
                optimizer.zero_grad()
            run.average(step)
            last = step == steps - 1
            due = evaluate is not None and (last or (step + 1) % evaluate_every == 0)
            measured = run.evaluate(step, evaluate) if due else {}
            if step % log_every == 0 or last or due:
                run.log(step, rate, measured)
            if on_step is not None:
                on_step(step, model)
                model.train()  # the hook may have drawn samples in eval mode
            stopping = run.stopping(stop)
            if (step + 1) % save_every == 0 or last or stopping:
                run.save(step + 1)
            if stopping:
                raise KeyboardInterrupt(f"stopped after {step + 1} of {steps} steps; saved {out}")
        # [end]
    return Fit(model.eval(), run.ema.eval(), run.history, run.seconds)


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


def _average(model: nn.Module) -> nn.Module:
    """A copy for the moving average, in eval mode and without gradients."""
    average = copy.deepcopy(model).requires_grad_(False)
    for module in average.modules():  # by hand: a model's own `train` may change its weights
        module.training = False
    return average


@contextmanager
def _taught(model: nn.Module, average: nn.Module) -> Iterator[None]:
    """Hand the average to a model that learns from it, while the block runs."""
    if average is model or not hasattr(model, "set_teacher"):
        yield
        return
    if shard.wanted():
        name = type(model).__name__
        raise ValueError(f"sharded training cannot hand {name} its average (set_teacher)")
    model.set_teacher(average)
    try:
        yield
    finally:
        model.set_teacher(None)


def _check_parts(model: nn.Module) -> None:
    """Refuse layers that mix the rows of a batch, so that its parts cannot give its result."""
    for name, module in model.named_modules():
        mixes = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if mixes and module.training and not isinstance(module, GhostBatchNorm2d):
            raise ValueError(
                f"accumulate: {name} ({type(module).__name__}) normalises by the statistics of its "
                "batch, and parts of a batch have others; use accumulate=1, or GhostBatchNorm2d "
                "where statistics of the parts are wanted"
            )


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
    intervals: dict[str, int | None],
    resume: bool,
    out: str | os.PathLike | None,
) -> None:
    """Refuse arguments out of their range, naming the first."""
    least = {"steps": 1, "accumulate": 1, "warmup": 0, "weight_decay": 0, "seed": 0}
    for name, bound in least.items():
        if settings[name] < bound:
            raise ValueError(f"{name} must be at least {bound}, got {settings[name]}")
    for name, value in intervals.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for name in ("lr", "eps"):
        if not settings[name] > 0:
            raise ValueError(f"{name} must be above 0, got {settings[name]}")
    clip, ema = settings["clip"], settings["ema"]
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be above 0 or None, got {clip}")
    if not (ema is None or callable(ema)) and not 0 < ema < 1:
        raise ValueError(f"ema must lie between 0 and 1, or be None; got {ema}")
    if (momentum := settings["momentum"]) is not None and not 0 < momentum < 1:
        raise ValueError(f"momentum must lie between 0 and 1, or be None; got {momentum}")
    check_schedule(settings["schedule"], settings["steps"], settings["warmup"])
    if settings["precision"] not in PRECISIONS:
        raise ValueError(f"unknown precision {settings['precision']!r}; accepted: {PRECISIONS}")
    if resume and out is None:
        raise ValueError("resume=True needs out, the checkpoint to continue from")
