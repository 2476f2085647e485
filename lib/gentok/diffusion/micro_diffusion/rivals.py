"""What MicroDiT is held against: no masking, masking at the input, a router of the tokens' choice.

All have the same parameters under the same names: built from one seed they start alike, and given
one seed of training they meet the same batches, captions dropped, noise levels and noise.
"""

from dataclasses import replace

from gentok.diffusion.micro_diffusion.config import MicroDiTConfig
from gentok.diffusion.micro_diffusion.cost import total_flops

UNMASKED, NAIVE, DEFERRED = "unmasked", "naive", "deferred"


def arms(config: MicroDiTConfig, mask_ratio: float | None = None) -> dict[str, MicroDiTConfig]:
    """The three ways to train one network.

    Args:
        config: of the network; nothing is said about an unmasked end (``unmasked_from`` is None).
        mask_ratio: of the masked ways; the configuration's if None.

    Returns:
        ``unmasked``: every step sees every token; ``naive``: tokens are dropped before the mixer,
        so that nothing ever sees them; ``deferred``: behind it.
    """
    ratio = config.mask_ratio if mask_ratio is None else mask_ratio
    base = replace(config, unmasked_from=None, mask_ratio=ratio)
    return {
        UNMASKED: replace(base, mask_ratio=0.0),
        NAIVE: replace(base, masking="naive"),
        DEFERRED: replace(base, masking="deferred"),
    }


def equal_steps(arms: dict[str, MicroDiTConfig], steps: int, of: str = DEFERRED) -> dict[str, int]:
    """Steps that cost each arm what ``steps`` cost the arm ``of``, rounded down."""
    cost = {name: total_flops(config, config.mask_ratio) for name, config in arms.items()}
    return {name: steps * cost[of] // flops for name, flops in cost.items()}


def token_choice(config: MicroDiTConfig) -> MicroDiTConfig:
    """The same network with tokens that choose their experts, as dear, without auxiliary loss."""
    return replace(config, router="token-choice")
