"""Training plans: what `fit` is told, written down once for a system and each of its presets.

``<part>/<slug>/recipe.py`` defines

- ``plan(preset, profile) -> Plan``: everything that decides a training, as frozen dataclasses. The
  chapter, ``gentok train`` and the studies read it, so that what the page shows and what the
  command does is one training. What belongs to a preset stands beside its name;
- ``train(preset, profile, *, out, resume, seed) -> nn.Module``: trains the system by its plan.
  ``out`` is the checkpoint file, or None. A recipe of several stages keeps the others beside it,
  at ``stage(out, "<name>")``;
- ``STAGES``, if the stages can be launched one by one (``gentok train --stage``): their names.
  ``train`` then also takes ``stages``, and ``written(preset, profile, stage, out)`` lists the
  checkpoints that one of them writes;
- ``sample(checkpoint, out, *, n, seed)``: writes ``n`` samples to the file ``out``; ``SAMPLES``, if
  that decides anything: the endings that ``out`` may have;
- ``WEIGHTS``, if weights come with the book: see `gentok.training.weights`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from torch import nn

from gentok.training.parameter_groups import decay_groups
from gentok.training.schedules import Schedule

C = TypeVar("C")


@dataclass(frozen=True)
class Stage:
    """How one network is trained: the rows of a batch, and what `gentok.training.fit` is told.

    Args:
        steps: optimiser steps.
        batch_size: rows of a batch, all processes together.
        lr: peak learning rate; ``betas``, ``eps`` and ``weight_decay`` are AdamW's.
        spare: words that mark parameters which weight decay spares beside biases, norms and tables
            (see `gentok.training.decay_groups`); None decays all parameters alike.
        momentum: of SGD in AdamW's place, or None.
        warmup: steps over which the rate rises; ``schedule``: what follows.
        clip: largest norm of the gradient, or None; always stated, as papers differ in it.
        ema: decay of the average of the weights, or None.
        accumulate: micro-batches; ``precision``: ``"no"`` or ``"bf16"``.
    """

    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    spare: tuple[str, ...] | None = None
    momentum: float | None = None
    warmup: int = 0
    schedule: str | Schedule | Callable[[int], float] = "constant"
    clip: float | None = field(kw_only=True)
    ema: float | None = None
    accumulate: int = 1
    precision: str = "no"

    def fit_arguments(self, model: nn.Module | None = None) -> dict[str, Any]:
        """The keywords of `gentok.training.fit`: all but ``batch_size``, which batches know.

        Args:
            model: whose parameters are told apart where the stage spares some from weight decay.

        Raises:
            ValueError: if it spares some and there is no model.
        """
        arguments = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        del arguments["batch_size"], arguments["spare"]
        if self.spare is None:
            return arguments
        if model is None:
            raise ValueError("model: a stage that spares parameters has to see them")
        return arguments | {"groups": decay_groups(model, self.weight_decay, self.spare)}


def preset_of(presets: Mapping[str, C], name: str) -> C:
    """The configuration of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in presets:
        raise ValueError(f"unknown preset {name!r}; accepted: {', '.join(presets)}")
    return presets[name]
