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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

import gentok
from gentok.nn.gather import moves_once, whole_step
from gentok.nn.player import Player
from gentok.training import shard, slices
from gentok.training.checkpoint import (
    check_after,
    check_shapes,
    digest_of,
    load_checkpoint,
    load_weights,
    read_header,
    save,
    sweep,
)
from gentok.training.configs import config_of
from gentok.training.machines import agreed, any_of, check_shared, from_first
from gentok.training.outputs import check_place, only_writer
from gentok.training.parameter_groups import ParameterGroup, optimiser_groups
from gentok.training.progress import Bar, Silent, progress_bar
from gentok.training.schedules import described, knows_length
from gentok.training.schema import RUN, check_meta
from gentok.training.shard import slice_like, whole
from gentok.training.trackers import tracker_for

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
        after: the checkpoint of the stage that this one is trained on, or None.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        average: nn.Module,
        players: list[Player],
        settings: dict[str, Any],
        out: str | os.PathLike | None,
        after: str | os.PathLike | None = None,
    ):
        self.accelerator, self.model, self.players = accelerator, model, players
        self.settings = settings
        self.recorded = {name: _recorded(value) for name, value in settings.items()}
        self.out, self.after = None if out is None else Path(out), after
        self.optimizers = [self._adamw(player) for player in players]
        self.ema = average
        self.history: list[dict[str, float]] = []
        self._bar: Bar = Silent()
        self._tracker: GeneralTracker | None = None
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
        if self._tracker is not None:
            self._tracker.log(self.history[-1], step=step)
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
        tensors, meta = {}, self._meta(done)
        if self._sliced():
            meta["slices"] = slices.write(self.out, self._tensors(), done)
        else:
            # Every process takes part in putting sharded tensors together, one after the other;
            # the first keeps and writes them.
            for name, tensor in self._tensors().items():
                tensor = whole(tensor)
                if self.accelerator.is_main_process:
                    tensors[name] = tensor.detach().cpu()
        agreed(lambda: self._put(tensors, meta))

    def _put(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        save(self.out, tensors, meta)
        slices.sweep(self.out, kept=meta.get("slices", {}).get("folder"))

    def _sliced(self) -> bool:
        """Whether the model is so large that each process keeps its own slices on the disk."""
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return shard.wanted() and weights >= slices.LARGE

    def resume(self) -> int:
        """Continue from the checkpoint, if there is one.

        Of several processes the first looks for it, reads it and hands it to the others, which may
        stand on machines with other disks.

        Returns:
            the number of steps that it has done.

        Raises:
            ValueError: if it is damaged, of another model or other settings, or was trained on
                another stage than the one that is there now.
        """
        found: dict[str, Tensor] = {}
        meta = agreed(lambda: self._read(found))
        if meta is None:
            return 0
        self.history, self._earlier = meta["history"], meta["seconds"]
        if "slices" in meta:
            self._fill(meta["slices"])
            return meta["step"]
        source = f"checkpoint {self.out}"
        main = self.accelerator.is_main_process
        tensors = from_first(found if main else None, self.accelerator.device)
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
        return meta["step"]

    def _fill(self, there: dict[str, Any]) -> None:
        """Read this process's slices of the weights, the average and the optimiser's memory."""
        known = slices.shapes(self.out, there)
        for optimizer, names in zip(self.optimizers, self._names(), strict=True):
            for name, parameter in names.items():
                if f"optimizer.{name}.step" in known:
                    optimizer.state[parameter] = {
                        "step": torch.zeros((), device=parameter.device),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
        slices.read(self.out, there, self._tensors())

    def _read(self, found: dict[str, Tensor]) -> dict[str, Any] | None:
        """Put the checkpoint's tensors into ``found`` and return what else it says, all checked."""
        if not self.out.is_file():
            return None
        source = f"checkpoint {self.out}"
        shapes, meta = read_header(self.out)
        check_meta(meta, source, [name for name in RUN if name != "history"])
        self._check_settings(meta, source)
        check_after(meta, self.after, source)
        here = {f"model.{name}": t.shape for name, t in self.model.state_dict().items()}
        if self.ema is not self.model:
            here |= {f"ema.{name}": t.shape for name, t in self.ema.state_dict().items()}
        there = {k: v for k, v in shapes.items() if not k.startswith("optimizer.")}
        check_shapes({name: tuple(shape) for name, shape in here.items()}, there, source)
        tensors, meta = load_checkpoint(self.out, whole=not shard.wanted())
        check_meta(meta, source, RUN)
        if "slices" not in meta:
            self._check_moments(tensors, meta["step"], source)
        slices.sweep(self.out, kept=meta.get("slices", {}).get("folder"))
        found.update(tensors)
        return meta

    def _check_moments(self, tensors: dict[str, Tensor], done: int, source: str) -> None:
        """Refuse moments that are not of these parameters, or that no training leaves behind."""
        left = {name for name in tensors if name.startswith("optimizer.")}
        for name, parameter in (item for names in self._names() for item in names.items()):
            keys = {moment: f"optimizer.{name}.{moment}" for moment in MOMENTS}
            there = left & set(keys.values())
            left -= there
            if not there:  # a parameter that no loss has reached
                continue
            if len(there) < len(keys):
                raise ValueError(f"{source} is damaged: {name} lacks some of {', '.join(MOMENTS)}")
            step, mean, square = (tensors[key] for key in keys.values())
            fits = mean.shape == square.shape == parameter.shape and step.numel() == 1
            if not (
                fits
                and 1 <= step.item() <= done
                and mean.isfinite().all()
                and square.isfinite().all()
                and (square >= 0).all()
            ):
                raise ValueError(f"{source} is damaged: the optimiser's memory of {name} is wrong")
        if left:
            raise ValueError(f"{source} is of another model or preset: it has {min(left)}")

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
    def writing(self, resume: bool) -> Iterator[int]:
        """Keep the checkpoint's place to this run while the block runs; gives the first step.

        Raises:
            ValueError: if another process is writing it, it is no regular file, or `resume` refuses
                what is there.
            OSError: if nothing can be written there.
        """
        with ExitStack() as held:
            if self.out is not None:
                agreed(lambda: self._take_place(held))
                if self._sliced():
                    check_shared(self.out.parent, "every process writes its slices of the model")
            yield self.resume() if resume else 0

    def _take_place(self, held: ExitStack) -> None:
        check_place(self.out, "out")
        held.enter_context(only_writer(self.out, "out"))
        sweep(self.out)
        if not self.out.is_file():
            slices.sweep(self.out, kept=None)

    @contextmanager
    def shown(self, start: int, wanted: bool, log_every: int) -> Iterator[None]:
        """Show progress and write curves while the block runs, on the main process only."""
        if self.accelerator.is_main_process:
            self._bar = progress_bar(start, self.settings["steps"], wanted, log_every)
            self._tracker = tracker_for(self.out, self.history)
        try:
            yield
        finally:
            self._bar.close()
            if self._tracker is not None:
                self._tracker.finish()

    def stopping(self, stop: threading.Event) -> bool:
        """Whether any process was asked to stop: they stop after the same step, or none does."""
        return any_of(stop.is_set(), self.accelerator.device)

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
            "after": digest_of(self.after),
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
            longer = name == "steps" and extensible and there is not None and here >= there
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
