"""What a decoding step costs, exactly, in multiply-accumulates (MACs) of one image and one branch.

Counted are matrix products: projections, attention, MLPs, modulations, head. Norms, activations,
softmax, table lookups and the VQ decoder are not. Guidance runs two branches, so it doubles all.

D channels, K codes, N tokens = |new| + |old| + |masked|.
"""

from gentok.base.masked.nat import MaskedTokenConfig, NATConfig
from gentok.base.masked.unmask import mask_schedule
from gentok.tokens.enat.model import ENATConfig


def head_macs(config: MaskedTokenConfig) -> int:
    """Head on all N tokens: N (D^2 + (K + 1) D)."""
    return config.num_tokens * (config.dim**2 + (config.codebook_size + 1) * config.dim)


def nat_step_macs(config: NATConfig) -> int:
    """L (12 D^2 N + 2 N^2 D + 6 D^2) and the head, at every step; 6 D^2 is the modulation."""
    d, n = config.dim, config.num_tokens
    token = (4 + 2 * config.mlp_ratio) * d**2  # 12 D^2: q, k, v, out, and the MLP
    return config.depth * (token * n + 2 * n * n * d + 6 * d**2) + head_macs(config)


def enat_step_macs(config: ENATConfig, num_new: int, num_old: int, num_masked: int) -> int:
    """A step that encodes ``num_new`` tokens and reuses ``num_old``; without reuse, num_old = 0.

    Encoder, each block: 12 D^2 |new| + 2 D^2 |old| (each layer projects keys and values of the old
    features anew) + 2 |new| (|new| + |old|) D + 8 D^2 (modulation); nothing if no token is new.
    Projection of old features: 8 D^2 |old|. Decoder, each block: 12 D^2 |masked| + 2 D^2 (|new| +
    |old|) + 2 |masked| N D + 8 D^2.

    Raises:
        ValueError: if the three groups are not N tokens together.
    """
    d, n = config.dim, config.num_tokens
    if min(num_new, num_old, num_masked) < 0 or num_new + num_old + num_masked != n:
        raise ValueError(f"groups must add up to {n}, got {num_new} + {num_old} + {num_masked}")
    token = (4 + 2 * config.mlp_ratio) * d**2
    visible = num_new + num_old
    encoder = token * num_new + 2 * d**2 * num_old + 2 * num_new * visible * d + 8 * d**2
    decoder = token * num_masked + 2 * d**2 * visible + 2 * num_masked * n * d + 8 * d**2
    return (
        (config.encoder_depth * encoder if num_new else 0)
        + 2 * config.mlp_ratio * d**2 * num_old
        + config.decoder_depth * decoder
        + head_macs(config)
    )


def sample_macs(config: MaskedTokenConfig, num_steps: int | None = None, reuse: bool = True) -> int:
    """MACs of one sample, one branch, over the steps of the cosine schedule.

    The head is counted on all N tokens, as in the released code. Sampling needs it on the masked
    ones alone, and `gentok.base.masked.unmask.generate` spares the rest.

    Args:
        config: of a NAT or an ENAT.
        num_steps: T; the configuration's own if None.
        reuse: whether ENAT hands features from step to step (NAT cannot).

    Raises:
        ValueError: if ``num_steps`` does not lie in [1, N].
    """
    num_steps = config.schedule.num_steps if num_steps is None else num_steps
    counts = mask_schedule(config.num_tokens, num_steps)
    if isinstance(config, NATConfig):
        return num_steps * nat_step_macs(config)
    total, earlier = 0, 0
    for before in counts[:-1]:
        visible = config.num_tokens - before
        old = earlier if reuse else 0
        total += enat_step_macs(config, visible - old, old, before)
        earlier = visible
    return total
