"""The optimisers that `fit` knows, and what each of them remembers of a parameter.

AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2) keeps two averages of the gradient
and counts its steps. Stochastic gradient descent with momentum keeps one sum of past gradients;
recognisers are still tuned with it, at larger pictures or on small data sets.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

ADAMW = ("step", "exp_avg", "exp_avg_sq")
SGD = ("momentum_buffer",)
FUSED = ("cpu", "cuda", "mps", "xpu")  # devices where torch moves all parameters in one kernel


def optimizer_for(
    groups: list[dict], settings: Mapping[str, Any], device: str
) -> torch.optim.Optimizer:
    """AdamW, or SGD where the settings of `fit` name a momentum.

    Args:
        groups: parameters as `gentok.training.parameter_groups.optimiser_groups` divides them.
        settings: ``lr``, ``momentum``, and AdamW's ``betas`` and ``eps``.
        device: kind of the device where the parameters are.
    """
    if settings["momentum"] is not None:
        return torch.optim.SGD(
            groups, lr=settings["lr"], momentum=settings["momentum"], fused=device in FUSED
        )
    return torch.optim.AdamW(
        groups,
        lr=settings["lr"],
        betas=tuple(settings["betas"]),
        eps=settings["eps"],
        fused=device in FUSED,
    )


def moments(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what the optimiser of these settings remembers of a parameter."""
    return ADAMW if settings["momentum"] is None else SGD


def empty_memory(settings: Mapping[str, Any], parameter: nn.Parameter) -> dict[str, Tensor]:
    """Zeros in the shape of that memory, cut as the parameter is, to be filled."""
    return {
        name: torch.zeros((), device=parameter.device)
        if name == "step"
        else torch.zeros_like(parameter)
        for name in moments(settings)
    }


def is_possible(memory: Mapping[str, Tensor], parameter: nn.Parameter, done: int) -> bool:
    """Whether a training of ``done`` steps can have left this memory of a parameter."""
    averages = {name: value for name, value in memory.items() if name != "step"}
    if any(value.shape != parameter.shape for value in averages.values()):
        return False
    count, square = memory.get("step"), memory.get("exp_avg_sq")
    if count is not None and not (count.numel() == 1 and 1 <= count.item() <= done):
        return False
    finite = all(value.isfinite().all() for value in averages.values())
    return finite and (square is None or bool((square >= 0).all()))
