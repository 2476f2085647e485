"""The state of a training run: optimisers, weight average, history and its checkpoint.

`gentok.training.loop.fit` holds the loop; this file holds what the loop keeps between steps.
"""

import json
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

import gentok
from gentok.nn.gather import moves_once, whole_step
from gentok.nn.player import Player
from gentok.training.checkpoint import config_of, load_checkpoint, load_weights, save
from gentok.training.parameter_groups import ParameterGroup, optimiser_groups
from gentok.training.progress import Silent, progress_bar
from gentok.training.schedules import described, knows_length
from gentok.training.shard import slice_like, whole

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW remembers of a parameter
# What asks a run to stop; Windows has no SIGHUP.
REQUESTS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Run:
    """What a training run keeps between steps, and what its checkpoint holds.

    Args:
        accelerator: says which device and which process this is.
        model: the model, already on its device, whole or sharded.
        average: a copy for the weight average, or the model itself if there is none.
        players: who moves, each with parameters of its own.
        settings: the arguments of `fit` that decide the result.
        out: the checkpoint file, or None.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        average: nn.Module,
        players: list[Player],
        settings: dict[str, Any],
        out: str | os.PathLike | None,
    ):
        self.accelerator, self.model, self.players = accelerator, model, players
        self.settings = settings
        self.recorded = {name: _recorded(value) for name, value in settings.items()}
        self.out = None if out is None else Path(out)
        self.optimizers = [self._adamw(player) for player in players]
        self.ema = average
        self.history: list[dict[str, float]] = []
        self._bar = Silent()
        self._sums: dict[str, Tensor] = {}
        self._began, self._earlier = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Training time so far, earlier runs of a resumed training included."""
        return self._earlier + time.monotonic() - self._began

    def share(self, batches: Callable[[int], dict], step: int) -> list[dict]:
        """Begin a step: this process's rows of its batch, in micro-batches, on the device.

        Raises:
            ValueError: if the rows do not divide evenly.
        """
        self._sums = {}
        accumulate = self.settings["accumulate"]
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        if count > 1 and hasattr(batches, "part"):  # the source reads this process's rows alone
            batch, first, parts = batches.part(step, index, count), 0, accumulate
        else:
            batch, first, parts = batches(step), index * accumulate, count * accumulate
        sizes = {name: len(value) for name, value in batch.items()}
        rows = next(iter(sizes.values()), 0)
        if rows == 0 or rows % parts or set(sizes.values()) != {rows}:
            raise ValueError(
                f"a batch needs equal numbers of rows, a multiple of {count * accumulate} "
                f"(processes x accumulate); got {sizes}"
            )
        size = rows // parts
        return [
            {name: self._place(value[i * size : (i + 1) * size]) for name, value in batch.items()}
            for i in range(first, first + accumulate)
        ]

    def note(self, player: Player, loss: Tensor, parts: dict[str, Tensor]) -> None:
        """Add one micro-batch's loss and parts to those of the step."""
        prefix = f"{player.name}/" if len(self.players) > 1 else ""
        for name, value in {**parts, "loss": loss}.items():
            share = torch.as_tensor(value).detach().float() / self.settings["accumulate"]
            self._sums[prefix + name] = self._sums.get(prefix + name, 0) + share

    def average(self, step: int) -> None:
        """Move the weight average towards the weights; copy what is no weight."""
        if self.ema is not self.model:
            decay = self._decay(step)
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(self.ema.parameters()), list(self.model.parameters()), 1 - decay
                )
                for mean, value in zip(self.ema.buffers(), self.model.buffers(), strict=True):
                    mean.copy_(value)

    def evaluate(
        self, step: int, measure: Callable[[int, nn.Module], dict[str, float]]
    ) -> dict[str, float]:
        """Measure the averaged model, leaving no trace in the training: columns of the history."""
        with looking(self.ema), forked_rng(self.accelerator):
            values = measure(step, self.ema)
        return {f"eval/{name}": float(value) for name, value in values.items()}

    def log(self, step: int, rate: float, measured: dict[str, float]) -> None:
        """Add a row to the history: the losses, averaged over processes, and what was measured.

        Raises:
            FloatingPointError: if a loss is not finite.
        """
        values = torch.stack(list(self._sums.values()))
        values = self.accelerator.reduce(values, reduction="mean").tolist()
        row = dict(zip(self._sums, values, strict=True))
        losses = {name: value for name, value in row.items() if name.endswith("loss")}
        for name, value in losses.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{name} is {value} at step {step}{self._kept()}")
        self.history.append({"step": step, "seconds": self.seconds, "lr": rate, **row, **measured})
        self._bar.update(step + 1, "  ".join(f"{k} {v:.4g}" for k, v in losses.items()))

    def save(self, done: int) -> None:
        """Write the checkpoint after ``done`` steps, unless the run has none.

        Raises:
            FloatingPointError: if a weight is not finite; the last checkpoint stays.
            OSError: if it cannot be written; the last checkpoint stays.
        """
        if self.out is None:
            return
        if not all(whole(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise FloatingPointError(f"a weight is not finite after {done} steps{self._kept()}")
        # Every process takes part in putting sharded tensors together; one writes them.
        tensors = {name: whole(tensor) for name, tensor in self._tensors().items()}
        if self.accelerator.is_main_process:
            save(self.out, tensors, self._meta(done))

    def resume(self) -> int:
        """Continue from the checkpoint, if there is one.

        Returns:
            the number of steps that it has done.

        Raises:
            ValueError: if it is damaged, or of another model or other settings.
        """
        if not self.out.is_file():
            return 0
        tensors, meta = load_checkpoint(self.out)
        source = f"checkpoint {self.out}"
        self._check_settings(meta, source)
        load_weights(self.model, tensors, "model.", source)
        if self.ema is not self.model:
            load_weights(self.ema, tensors, "ema.", source)
        for optimizer, names in zip(self.optimizers, self._names(), strict=True):
            for name, parameter in names.items():
                if f"optimizer.{name}.step" in tensors:
                    optimizer.state[parameter] = {
                        moment: self._moment(tensors[f"optimizer.{name}.{moment}"], parameter)
                        for moment in MOMENTS
                    }
        self.history, self._earlier = meta["history"], meta["seconds"]
        return meta["step"]

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """State that layers move in training moves once in the block, by all micro-batches' rows.

        Raises:
            ValueError: if a layer moves a buffer with every micro-batch all the same.
        """
        if self.settings["accumulate"] == 1:
            yield
            return
        with whole_step():
            # Across processes buffers are also copied from the first one; not to be told apart.
            watched = self._undeclared_state() if self.accelerator.num_processes == 1 else {}
            before = {name: tensor._version for name, tensor in watched.items()}
            yield
            for name, tensor in watched.items():
                if tensor._version != before[name]:
                    raise ValueError(
                        f"accumulate: {name} moves with every micro-batch; mark the method that "
                        "moves it with gentok.nn.gather.once_a_step, or use accumulate=1"
                    )

    @contextmanager
    def bar(self, start: int, wanted: bool, log_every: int) -> Iterator[None]:
        """Show progress while the block runs, on the main process only."""
        wanted = wanted and self.accelerator.is_main_process
        self._bar = progress_bar(start, self.settings["steps"], wanted, 10 * log_every)
        try:
            yield
        finally:
            self._bar.close()

    @contextmanager
    def interruptible(self) -> Iterator[threading.Event]:
        """Turn the first request to stop into an event, so that the step can end and be saved.

        Requests are Ctrl-C and what clusters and terminals send before they end a process (SIGTERM,
        SIGHUP). A second one stops at once. Without a checkpoint, or outside the main thread (where
        Python takes no signals), nothing changes.
        """
        stop = threading.Event()
        if self.out is None or threading.current_thread() is not threading.main_thread():
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

    def _adamw(self, player: Player) -> torch.optim.AdamW:
        device = self.accelerator.device.type
        names = {id(p): name for name, p in self.model.named_parameters()}
        decay, groups = self.settings["weight_decay"], self.settings["groups"] or []
        return torch.optim.AdamW(
            optimiser_groups(player.parameters, names, groups, decay),
            lr=self.settings["lr"],
            betas=tuple(self.settings["betas"]),
            fused=device in ("cpu", "cuda", "mps", "xpu"),
        )

    def _decay(self, step: int) -> float:
        """Share of its past that the average keeps at a step."""
        ema = self.settings["ema"]
        if not callable(ema):
            return min(ema, (1 + step) / (10 + step))
        if not 0 <= (decay := float(ema(step))) <= 1:
            raise ValueError(f"ema gave the decay {decay} at step {step}; accepted: 0 to 1")
        return decay

    def _undeclared_state(self) -> dict[str, Tensor]:
        """Buffers of modules that do not say when they move them.

        Spectral norm is left out: its vectors follow the weights and not the rows.
        """
        return {
            f"{path}.{name}" if path else name: buffer
            for path, module in self.model.named_modules()
            if not moves_once(module) and not isinstance(module, _SpectralNorm)
            for name, buffer in module.named_buffers(recurse=False)
        }

    @staticmethod
    def _moment(stored: Tensor, parameter: nn.Parameter) -> Tensor:
        """A copy of a stored moment, cut as the parameter is; the step count is one number."""
        stored = stored.to(parameter.device, copy=True)
        return slice_like(stored, parameter) if stored.shape == parameter.shape else stored

    def _place(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(self.accelerator.device, non_blocking=True)
        return value

    def _names(self) -> list[dict[str, nn.Parameter]]:
        """For each player: its parameters by their names in the model."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        return [{names[id(p)]: p for p in player.parameters} for player in self.players]

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        if self.ema is not self.model:
            tensors |= {f"ema.{name}": t for name, t in self.ema.state_dict().items()}
        for optimizer, names in zip(self.optimizers, self._names(), strict=True):
            for name, parameter in names.items():
                for moment, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{name}.{moment}"] = value
        return tensors

    def _meta(self, done: int) -> dict[str, Any]:
        return {
            "step": done,
            "seconds": self.seconds,
            "history": self.history,
            "model": f"{type(self.model).__module__}.{type(self.model).__qualname__}",
            "config": config_of(self.model),
            "settings": self.recorded,
            "processes": self.accelerator.num_processes,
            "versions": {
                "gentok": gentok.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    def _check_settings(self, meta: dict[str, Any], source: str) -> None:
        """Refuse to continue a run under settings that would make it another run."""
        config = config_of(self.model)
        pairs = [("config", meta["config"], config and _as_json(config))]
        pairs += [(name, meta["settings"].get(name), self.recorded[name]) for name in self.recorded]
        extensible = not knows_length(self.settings["schedule"])
        for name, there, here in pairs:
            # Where no step's rate depends on the length, a longer run is the same run.
            longer = name == "steps" and extensible and here >= there
            if there != here and not longer:
                raise ValueError(f"cannot resume {source}: {name} was {there}, now it is {here}")

    def _kept(self) -> str:
        there = self.out is not None and self.out.is_file()
        return f"; the last good checkpoint is {self.out}" if there else ""


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
def forked_rng(accelerator: Accelerator) -> Iterator[None]:
    """Leave the caller's random generators as they were."""
    cuda = accelerator.device.type == "cuda"
    with torch.random.fork_rng(devices=[accelerator.device] if cuda else []):
        yield


def _as_json(value: Any) -> Any:
    """A value as it comes back from a checkpoint: tuples turned into lists."""
    return json.loads(json.dumps(value, default=str))


def _recorded(value: Any) -> Any:
    """A setting as the checkpoint records it."""
    if isinstance(value, list):
        return [_recorded(item) for item in value]
    return value.summary() if isinstance(value, ParameterGroup) else described(value)
