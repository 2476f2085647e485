"""Parameters that one optimiser treats in different ways: spared from weight decay, slowed down.

Papers rarely decay everything. Biases and the gains of norms set a level that decay would only
pull towards zero, and rows of a table that a batch does not use would shrink without ever being
asked. Groups name parameters and do not hold them, so they survive sharding, a copy and a resume.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

# Parameters whose own name (the last part of the path) holds one of these words stand for places,
# for tokens or for tables, not for maps from one space to another.
SPARED = ("token", "position", "embedding")


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with settings of their own; `fit` treats all others by its arguments.

    Args:
        names: as in ``model.named_parameters()``.
        weight_decay: AdamW's, for these parameters.
        rate: their learning rate over that of the run.

    Raises:
        ValueError: if the decay is negative or the rate is not above 0.
    """

    names: frozenset[str]
    weight_decay: float
    rate: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "names", frozenset(self.names))
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not self.rate > 0:
            raise ValueError(f"rate must be above 0, got {self.rate}")

    def summary(self) -> dict[str, float | str]:
        """What a checkpoint keeps of a group, to tell on a resume whether it is the same."""
        digest = hashlib.sha256("\n".join(sorted(self.names)).encode()).hexdigest()[:16]
        return {"names": digest, "weight_decay": self.weight_decay, "rate": self.rate}


def decay_groups(
    model: nn.Module, weight_decay: float, spare: Iterable[str] = SPARED
) -> list[ParameterGroup]:
    """Weight decay on matrices and kernels alone.

    Spared are all parameters of fewer than two axes (biases, gains and shifts of norms), tables
    (``nn.Embedding``), and those whose own name holds one of the words of ``spare``, such as
    ``class_token``. The layers of an MLP called ``position`` are matrices like others.

    Args:
        model: whose parameters.
        weight_decay: of those that are not spared.
        spare: words that mark a parameter; ``()`` for none.

    Returns:
        the group that decays and the group that does not; an empty one is left out.
    """
    tables = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    words = tuple(spare)
    spared, decayed = [], []
    for name, parameter in model.named_parameters():
        own = name.rpartition(".")[2]
        is_spared = parameter.ndim < 2 or parameter in tables or any(w in own for w in words)
        (spared if is_spared else decayed).append(name)
    groups = ((decayed, weight_decay), (spared, 0.0))
    return [ParameterGroup(frozenset(names), decay) for names, decay in groups if names]


def optimiser_groups(
    parameters: Iterable[nn.Parameter],
    names: dict[int, str],
    groups: list[ParameterGroup],
    weight_decay: float,
) -> list[dict]:
    """Divide one player's parameters as a torch optimiser takes them.

    Args:
        parameters: the player's, in its order.
        names: ``id(parameter)`` -> its name in the model.
        groups: of the whole model.
        weight_decay: of parameters in no group.

    Returns:
        groups with the further entry ``rate``; one, with all parameters, if ``groups`` is empty.
    """
    rest = ParameterGroup(frozenset(), weight_decay)
    group_of = {name: group for group in groups for name in group.names}
    divided: dict[ParameterGroup, list[nn.Parameter]] = {}
    for parameter in parameters:
        divided.setdefault(group_of.get(names[id(parameter)], rest), []).append(parameter)
    return [
        {"params": params, "weight_decay": group.weight_decay, "rate": group.rate}
        for group, params in divided.items()
    ]


def check_groups(model: nn.Module, groups: list[ParameterGroup]) -> None:
    """Refuse groups that overlap or name what the model does not have.

    Raises:
        ValueError: naming the first such parameter.
    """
    known = {name for name, _ in model.named_parameters()}
    taken: set[str] = set()
    for group in groups:
        for name in sorted(group.names):
            if name not in known:
                raise ValueError(f"groups: {type(model).__name__} has no parameter {name!r}")
            if name in taken:
                raise ValueError(f"groups: {name!r} is in two groups")
        taken |= group.names


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of a step, each group's by its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]
