"""Stochastic depth: residual branches that are sometimes left out (Huang et al. 2016).

In the form of DeiT (Touvron et al. 2021): a branch is dropped for single items of a batch, and the
rate rises linearly with depth.

Shapes: B batch; the rest of an item's axes are arbitrary.
"""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch for single items in training; the kept ones are scaled up.

    Args:
        rate: probability of a drop, in [0, 1).

    Raises:
        ValueError: if the rate is out of range.
    """

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate must lie in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same; its expectation is ``x``."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) < keep
        return x * (kept / keep).to(x.dtype)


def drop_rates(rate: float, depth: int) -> list[float]:
    """Rates of ``depth`` blocks: from 0 at the first, linearly, to ``rate`` at the last."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
