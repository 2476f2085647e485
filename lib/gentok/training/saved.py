"""What of a training run is kept on the disk, and how a run goes on from it.

`gentok.training.run` adds what happens between two steps.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

import gentok
from gentok.nn.player import Player
from gentok.training import shard, slices
from gentok.training.checkpoint import digest_of, load_checkpoint, read_header, save, sweep
from gentok.training.configs import config_of
from gentok.training.loading import check_after, check_shapes, load_weights
from gentok.training.machines import agreed, check_shared, from_first
from gentok.training.optimizers import empty_memory, is_possible, moments, optimizer_for
from gentok.training.outputs import check_place, only_writer
from gentok.training.parameter_groups import ParameterGroup, optimiser_groups
from gentok.training.schedules import described, knows_length
from gentok.training.schema import RUN, check_meta
from gentok.training.shard import slice_like, whole


class SavedRun:
    """The state of a training run, its checkpoint, and the way back.

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
        self.moments = moments(settings)
        self.optimizers = [self._optimizer(player) for player in players]
        self.ema = average
        self.history: list[dict[str, float]] = []
        self._began, self._earlier = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Training time so far, earlier runs of a resumed training included."""
        return self._earlier + time.monotonic() - self._began

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
                if f"optimizer.{name}.{self.moments[0]}" in tensors:
                    optimizer.state[parameter] = {
                        moment: self._moment(tensors[f"optimizer.{name}.{moment}"], parameter)
                        for moment in self.moments
                    }
        return meta["step"]

    def _fill(self, there: dict[str, Any]) -> None:
        """Read this process's slices of the weights, the average and the optimiser's memory."""
        known = slices.shapes(self.out, there)
        for optimizer, names in zip(self.optimizers, self._names(), strict=True):
            for name, parameter in names.items():
                if f"optimizer.{name}.{self.moments[0]}" in known:
                    optimizer.state[parameter] = empty_memory(self.settings, parameter)
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
            keys = {moment: f"optimizer.{name}.{moment}" for moment in self.moments}
            there = left & set(keys.values())
            left -= there
            if not there:  # a parameter that no loss has reached
                continue
            if len(there) < len(keys):
                lacking = ", ".join(self.moments)
                raise ValueError(f"{source} is damaged: {name} lacks some of {lacking}")
            memory = {moment: tensors[key] for moment, key in keys.items()}
            if not is_possible(memory, parameter, done):
                raise ValueError(f"{source} is damaged: the optimiser's memory of {name} is wrong")
        if left:
            raise ValueError(f"{source} is of another model or preset: it has {min(left)}")

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

    def _optimizer(self, player: Player) -> torch.optim.Optimizer:
        names = {id(p): name for name, p in self.model.named_parameters()}
        decay, groups = self.settings["weight_decay"], self.settings["groups"] or []
        divided = optimiser_groups(player.parameters, names, groups, decay)
        return optimizer_for(divided, self.settings, self.accelerator.device.type)

    @staticmethod
    def _moment(stored: Tensor, parameter: nn.Parameter) -> Tensor:
        """A copy of a stored moment, cut as the parameter is; the step count is one number."""
        stored = stored.to(parameter.device, copy=True)
        return slice_like(stored, parameter) if stored.shape == parameter.shape else stored

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

    def _kept(self) -> str:
        there = self.out is not None and self.out.is_file()
        return f"; the last good checkpoint is {self.out}" if there else ""


def _as_json(value: Any) -> Any:
    """A value as it comes back from a checkpoint: tuples turned into lists."""
    return json.loads(json.dumps(value, default=str))


def _recorded(value: Any) -> Any:
    """A setting as the checkpoint records it."""
    if isinstance(value, list):
        return [_recorded(item) for item in value]
    return value.summary() if isinstance(value, ParameterGroup) else described(value)
