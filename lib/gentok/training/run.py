"""What a training run does between its steps: batches, losses, average, curves.

`gentok.training.loop.fit` holds the loop, `gentok.training.saved` what is kept on the disk.
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from accelerate.tracking import GeneralTracker
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

from gentok.nn.gather import moves_once, whole_step
from gentok.nn.player import Player
from gentok.training.contexts import forked_rng, looking, requests_held
from gentok.training.machines import any_of
from gentok.training.progress import Bar, Silent, progress_bar
from gentok.training.saved import SavedRun
from gentok.training.trackers import tracker_for


class Run(SavedRun):
    """What a training run keeps between steps; the arguments are those of `SavedRun`."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._bar: Bar = Silent()
        self._tracker: GeneralTracker | None = None
        self._sums: dict[str, Tensor] = {}

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

    def interruptible(self) -> AbstractContextManager[threading.Event]:
        """Turn the first request to stop into an event, if there is a checkpoint to save to."""
        return requests_held(wanted=self.out is not None)

    def stopping(self, stop: threading.Event) -> bool:
        """Whether any process was asked to stop: they stop after the same step, or none does."""
        return any_of(stop.is_set(), self.accelerator.device)

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

    def _place(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(self.accelerator.device, non_blocking=True)
        return value
