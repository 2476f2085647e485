"""Finite scalar quantization: round each channel to a few values (Mentzer et al. 2023).

arXiv:2309.15505, section 3 and appendix A.1. The codebook is the product grid: nothing to learn,
no code to die, no loss.

Shapes: d channels of few levels each, K codes, their product.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gentok.nn.precision import at_least_single, full_precision

LEVELS = {  # codes asked for: levels a channel (table 1)
    2**8: (8, 6, 5),
    2**10: (8, 5, 5, 5),
    2**12: (7, 5, 5, 5, 5),
    2**14: (8, 8, 8, 6, 5),
    2**16: (8, 8, 8, 5, 5, 5),
}


class FSQ(nn.Module):
    """Bound each channel, round it, and read the roundings as the digits of one code.

    Args:
        levels: L_i, number of values of each channel, at least 3 (with 2 the half-step shift of
            even counts leaves no room; the paper advises 5 or more). See :data:`LEVELS`.

    Raises:
        ValueError: on no channel, on fewer than 3 levels, or on more codes than int64 holds.
    """

    EPSILON = 1e-3  # the outermost values are reached at finite latents

    def __init__(self, levels: Sequence[int]):
        super().__init__()
        self.levels = tuple(levels)
        if not self.levels or min(self.levels) < 3:
            raise ValueError(f"levels must be at least 3 each, got {self.levels}")
        if math.prod(self.levels) >= 2**63:
            raise ValueError(f"levels {self.levels} make more codes than int64 holds")

    @property
    def codebook_size(self) -> int:
        """Number of codes K."""
        return math.prod(self.levels)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize latents; the same in training and evaluation.

        Args:
            z: encoder output, (..., d), float.

        Returns:
            z_q: (..., d) in [-1, 1], float32 or wider; the gradient passes straight through the
                rounding, not through the bound.
            codes: (...), int64 in [0, K); the first channel is the lowest digit.

        Raises:
            ValueError: if the last axis of ``z`` is not d, or ``z`` is empty or not float.
        """
        if z.shape[-1] != len(self.levels):
            raise ValueError(f"z must be (..., {len(self.levels)}), got {tuple(z.shape)}")
        z = at_least_single(z)
        with full_precision(z):
            bounded = self._bound(z)
            rounded = bounded.round()
        digits = rounded.detach().long() + self._table(z, torch.int64) // 2  # (..., d) from 0
        codes = (digits * self._places(z)).sum(-1)
        straight = bounded + (rounded - bounded).detach()
        return straight / (self._table(z, z.dtype) // 2), codes

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...), int64 in [0, K) -> vectors (..., d), float32.

        Raises:
            ValueError: if a code lies outside [0, K).
        """
        if codes.numel() and not 0 <= codes.min() <= codes.max() < self.codebook_size:
            low, high = int(codes.min()), int(codes.max())
            raise ValueError(f"codes must lie in [0, {self.codebook_size}), got [{low}, {high}]")
        levels = self._table(codes, torch.int64)
        digits = codes[..., None] // self._places(codes) % levels  # (..., d)
        half = levels // 2
        return (digits - half).float() / half

    def _bound(self, z: Tensor) -> Tensor:
        """tanh scaled so that its roundings take L_i values; even L_i are shifted by a half."""
        levels = self._table(z, z.dtype)
        half = (levels - 1) * (1 + self.EPSILON) / 2
        offset = (levels % 2 == 0) * 0.5
        shift = torch.atanh(offset / half)  # so that z = 0 stays at 0
        return torch.tanh(z + shift) * half - offset

    def _table(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.tensor(self.levels, dtype=dtype, device=like.device)  # (d,)

    def _places(self, like: Tensor) -> Tensor:
        """Value of each digit: 1, L_1, L_1 L_2, ...: (d,) int64."""
        places = [math.prod(self.levels[:i]) for i in range(len(self.levels))]
        return torch.tensor(places, device=like.device)
