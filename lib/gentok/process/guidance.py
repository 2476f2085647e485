"""Classifier-free guidance (Ho and Salimans 2022).

One network is trained with and without its condition; at sampling time the difference of the two
answers is exaggerated. Works alike on velocities, noise estimates, scores and logits.
"""

import torch
from torch import Tensor


def guide(
    conditional: Tensor,
    unconditional: Tensor,
    scale: float,
    guided_channels: int | None = None,
) -> Tensor:
    """u + s (c - u). s = 0 ignores the condition, s = 1 obeys it, s > 1 exaggerates it.

    (The paper's w is s - 1.) A logit of -inf in either answer stays -inf: what is forbidden is not
    drawn at any scale; at s = 0 and s = 1 only the answer that counts decides.

    Args:
        conditional: answer with the condition, (B, C, ...) or any shape; ``unconditional``: the
            same without it.
        scale: s.
        guided_channels: guide only the first so many of axis 1 and take the others from
            ``conditional``: LightningDiT's first three, or all but a learned variance. None: all.

    Returns:
        The shape of the arguments.

    Raises:
        ValueError: if the shapes differ or ``guided_channels`` is not in [1, C].
    """
    if conditional.shape != unconditional.shape:
        raise ValueError(
            f"shapes must agree, got {tuple(conditional.shape)} and {tuple(unconditional.shape)}"
        )
    if guided_channels is not None:
        channels = conditional.shape[1]
        if not 1 <= guided_channels <= channels:
            raise ValueError(f"guided_channels must lie in [1, {channels}], got {guided_channels}")
        sizes = [guided_channels, channels - guided_channels]
        first, rest = conditional.split(sizes, dim=1)
        return torch.cat([guide(first, unconditional[:, :guided_channels], scale), rest], dim=1)
    guided = unconditional + scale * (conditional - unconditional)
    # -inf - -inf, and 0 times -inf, are NaN, which a sampler takes for the largest logit.
    counts = {0: unconditional, 1: conditional}.get(scale)
    if counts is None:
        counts = torch.minimum(conditional, unconditional)
    forbidden = conditional.isneginf() | unconditional.isneginf()
    return torch.where(forbidden, counts, guided)
