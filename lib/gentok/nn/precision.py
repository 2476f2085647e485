"""Arithmetic that stays in single precision whatever surrounds it.

A quantizer compares distances whose gaps are small beside the distances. Under autocast a matrix
product would be rounded to bfloat16, which has 8 bits, and the gaps would be gone.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager:
    """A context without autocast on the device of ``like``: float32 inputs, float32 products."""
    kind = like.device.type
    if not torch.amp.is_autocast_available(kind):  # the meta device has none
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def at_least_single(z: Tensor) -> Tensor:
    """Half precision -> float32; float32 and float64 stay.

    Raises:
        ValueError: if ``z`` is not floating point, empty, or a number of it is NaN.
    """
    if not z.is_floating_point():
        raise ValueError(f"expected floating point, got {z.dtype}")
    if not z.numel():
        raise ValueError(f"expected at least one latent, got {tuple(z.shape)}")
    if not z.is_meta and z.isnan().any():
        raise ValueError("expected numbers, got NaN")
    return z.to(torch.promote_types(z.dtype, torch.float32))
