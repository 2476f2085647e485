"""How well a masked token network predicts what it does not see: measures without a sampler.

All hide tokens of real grids and average -log p(true code), in nats a token; uniform guessing
costs log K. They see no sampling noise, so small differences show.

Shapes: B batch, N tokens, K codes.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.base.masked.nat import MaskedTokenModel
from gentok.base.masked.unmask import mask_schedule
from gentok.process.masked import random_mask


@torch.no_grad()
def masked_nll(
    network: MaskedTokenModel, codes: Tensor, label: Tensor, ratios: Sequence[float], seed: int = 0
) -> list[float]:
    """Negative log-likelihood of randomly hidden tokens at each mask ratio.

    Args:
        network: in eval mode.
        codes: (B, N) int64, real grids; ``label``: (B,) int64.
        ratios: shares of hidden tokens, each in (0, 1]; rounded to whole tokens, at least one.
        seed: of the masks, the same for every network.

    Returns:
        nats a hidden token, one number a ratio.

    Raises:
        ValueError: if a ratio does not lie in (0, 1].
    """
    if not all(0 < ratio <= 1 for ratio in ratios):
        raise ValueError(f"ratios must lie in (0, 1], got {list(ratios)}")
    values = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for ratio in ratios:
            hidden = max(1, round(ratio * codes.shape[1]))
            mask = random_mask(*codes.shape, hidden).to(codes.device)
            values.append(_nll(network(codes, label, mask)[0], codes, mask))
    return values


@torch.no_grad()
def decoding_nll(
    network: MaskedTokenModel,
    codes: Tensor,
    label: Tensor,
    num_steps: int = 8,
    reuse: bool = True,
    seed: int = 0,
) -> list[float]:
    """The same along a decoding: real tokens appear in random order, as many as when sampling.

    With ``reuse`` every step gets the state of the step before it, as in sampling, so features of
    old tokens grow as stale as they do there.

    Returns:
        nats a hidden token at each of the ``num_steps`` steps.
    """
    steps = _decode(network, codes, label, num_steps, reuse, seed)
    return [_nll(logits, codes, mask) for logits, mask, _ in steps]


@torch.no_grad()
def grid_nll(
    network: MaskedTokenModel,
    codes: Tensor,
    label: Tensor,
    num_steps: int = 8,
    reuse: bool = True,
    seed: int = 0,
) -> float:
    """What a decoding in ``num_steps`` steps pays for a whole grid, in nats a token.

    Each token is charged once, in the step that reveals it, given what was visible then. Tokens of
    one step are guessed independently of each other, so few steps cost more: by the chain rule this
    is the exact negative log-likelihood of the grid under that (random) order of decoding.
    """
    total = 0.0
    for logits, _, revealed in _decode(network, codes, label, num_steps, reuse, seed):
        total += _nll(logits, codes, revealed) * int(revealed.sum())
    return total / codes.numel()


def _decode(
    network: MaskedTokenModel, codes: Tensor, label: Tensor, num_steps: int, reuse: bool, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Logits of each step, what is masked in it, and what is revealed after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        order = torch.rand(codes.shape).argsort(-1).argsort(-1).to(codes.device)  # place in a queue
    state = None
    for hidden, later in pairwise(mask_schedule(codes.shape[1], num_steps)):
        mask = order < hidden
        logits, state = network(codes, label, mask, state if reuse else None)
        yield logits, mask, mask & (order >= later)


def _nll(logits: Tensor, codes: Tensor, mask: Tensor) -> float:
    return float(F.cross_entropy(logits[mask], codes[mask]))
