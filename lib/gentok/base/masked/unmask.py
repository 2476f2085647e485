"""From nothing but masks to a grid of codes in a few steps (MaskGIT; ENAT's released sampler).

Each step guesses all masked tokens at once, keeps the most confident and masks the rest again. It
needs of a network ``guess(codes, label, mask, previous) -> (logits, positions, state)``, see
:class:`gentok.base.masked.nat.MaskedTokenModel`.

Shapes: B batch, N tokens, M masked tokens of a step, K codes.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.base.masked.groups import State
from gentok.nn.place_head import check_drawable
from gentok.process.guidance import guide
from gentok.process.masked import gumbel, gumbel_at, num_masked_after, remask


@dataclass(frozen=True)
class Schedule:
    """How to sample. The defaults are ENAT-L's at 256x256.

    Args:
        num_steps: T, network evaluations (of each guidance branch).
        guidance_scale: strength of guidance at the end; it grows linearly from 0.
        mask_temperature: Gumbel noise on the confidences; it falls linearly to 0.
        sample_temperature: of the draws of codes; it falls linearly to 0.
        reuse: hand each step's features to the next one, if the network can use them.
    """

    num_steps: int = 8
    guidance_scale: float = 2.5
    mask_temperature: float = 1.5
    sample_temperature: float = 6.0
    reuse: bool = True


@dataclass(frozen=True)
class Trace:
    """One step of decoding, for looking at it.

    Attributes:
        codes: all guesses of the step, (B, N) int64; mask: what was masked again, (B, N) bool.
        features: the conditional branch's features of the step, (B, N, D).
    """

    codes: Tensor
    mask: Tensor
    features: Tensor


def mask_schedule(num_tokens: int, num_steps: int) -> list[int]:
    """Masked tokens before each step and after the last one: T + 1 numbers, from N down to 0.

    floor(N cos(pi/2 (t+1)/T)), but at least one token is revealed in every step.

    Raises:
        ValueError: if ``num_steps`` does not lie in [1, num_tokens].
    """
    if not 1 <= num_steps <= num_tokens:
        raise ValueError(f"num_steps must lie in [1, {num_tokens}], got {num_steps}")
    counts = [num_tokens]
    for step in range(num_steps):
        counts.append(min(num_masked_after(step, num_steps, num_tokens), counts[-1] - 1))
        # Not so few that a later step would have nothing to reveal.
        counts[-1] = max(counts[-1], num_steps - 1 - step)
    return counts


@torch.no_grad()
def generate(
    network: torch.nn.Module,
    label: Tensor,
    schedule: Schedule,
    trace: list[Trace] | None = None,
) -> Tensor:
    """Decode from all masks.

    Args:
        network: a :class:`gentok.base.masked.nat.MaskedTokenModel`, in eval mode.
        label: (B,) int64 classes.
        schedule: number of steps, guidance, temperatures.
        trace: a list that receives a :class:`Trace` per step, or None.

    Returns:
        (B, N) int64 in [0, K).

    Raises:
        ValueError: if the number of steps does not lie in [1, N] or the network is in train mode.
    """
    if network.training:
        raise ValueError("network must be in eval mode to sample; call network.eval()")
    config, steps = network.config, schedule.num_steps
    counts = mask_schedule(config.num_tokens, steps)
    shape = (len(label), config.num_tokens)
    codes = torch.zeros(shape, dtype=torch.int64, device=label.device)
    mask = torch.ones_like(codes, dtype=torch.bool)
    # Each branch sees its own features: its cache is of no use to the other.
    branches = {"given": label, "free": torch.full_like(label, config.num_classes)}
    states = dict.fromkeys(branches)
    for step in range(steps):
        remaining = 1 - (step + 1) / steps  # what the temperatures fall with
        # The scale lags one step behind: none at first, never quite the whole at the end.
        scale = schedule.guidance_scale * step / steps
        logits = {}
        for name, condition in branches.items():
            if name == "free" and schedule.guidance_scale == 0:
                continue
            if step == 0:
                logits[name], hidden, states[name] = _first_guess(network, condition)
                continue
            previous = states[name] if schedule.reuse else None
            logits[name], hidden, states[name] = network.guess(codes, condition, mask, previous)
        guided = logits["given"]
        if "free" in logits:
            guided = guide(guided, logits["free"], 1 + scale)
        check_drawable(guided)
        log_p = F.log_softmax(guided, dim=-1)  # (B, M, K)
        heat = max(schedule.sample_temperature * remaining, 1e-3)
        noise = gumbel_at(hidden, config.num_tokens, config.codebook_size)
        chosen = (log_p / heat + noise).argmax(-1)  # (B, M)
        codes = codes.scatter(1, hidden, chosen)
        # Confidence is the probability at temperature 1; what is visible stays visible.
        confidence = torch.full(shape, math.inf, device=label.device)
        confidence.scatter_(1, hidden, log_p.gather(-1, chosen[..., None]).squeeze(-1))
        noise = schedule.mask_temperature * remaining * gumbel(shape, label.device)
        mask = remask(confidence + noise, counts[step + 1])
        if trace is not None:
            trace.append(Trace(codes, mask, states["given"].features))
    return codes


def _first_guess(network: torch.nn.Module, label: Tensor) -> tuple[Tensor, Tensor, State]:
    """The guess when all is masked: grids of one class are alike then, and one stands for all."""
    kinds, row = label.unique(return_inverse=True)  # (kinds,), (B,)
    codes = torch.zeros(len(kinds), network.config.num_tokens, dtype=torch.int64, device=row.device)
    logits, hidden, state = network.guess(codes, kinds, torch.ones_like(codes, dtype=torch.bool))
    return logits[row], hidden[row], State(state.features[row], state.mask[row])
