"""Rotary position embedding in one, two, three or more dimensions (Su et al. 2021, RoFormer, 3.2).

A head's channels are split among the axes of a grid; each part is turned by the token's position on
its axis. The dot product of a query and a key then depends on positions only by their difference.

Shapes: B batch, h heads, N tokens, d channels of a head, A axes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def grid_positions(*sizes: int, device=None) -> Tensor:
    """Whole-number positions of a grid's tokens in raster order, the first axis slowest: (N, A)."""
    axes = [torch.arange(size, device=device) for size in sizes]
    return torch.cartesian_prod(*axes).view(-1, len(sizes))


def turn_pairs(x: Tensor, turns: Tensor) -> Tensor:
    """Turn neighbouring channels (2i, 2i+1), read as one complex number, by one complex product.

    On a CPU this is six times as fast as sines and cosines on two strided halves.

    Args:
        x: (..., N, d).
        turns: cosine and sine of each pair's angle, (N, d/2, 2), float32 or float64.

    Returns:
        The same shape and type; norms are kept.
    """
    # There is no complex bfloat16: narrow types are turned in the table's precision.
    wide = x if x.dtype in (torch.float32, torch.float64) else x.to(turns.dtype)
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))  # (..., N, d/2)
    turned = pairs * torch.view_as_complex(turns.to(wide.dtype))
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


class Rope(nn.Module):
    """Turn pairs of channels of queries or keys by their token's position.

    Args:
        axis_dims: channels of each axis, even numbers; their sum is d. ``(d,)`` for a sequence,
            ``(d/2, d/2)`` for images, and for example ``(64, 32, 32)`` for video.
        base: the slowest pair of an axis turns by about 1/base radians a token.
        interleaved: pairs are neighbours (2i, 2i+1); otherwise (i, i + half) inside each axis's
            part. Both encode the same; published weights fit only one of them.

    Raises:
        ValueError: if an entry of ``axis_dims`` is odd or below 2.
    """

    def __init__(self, axis_dims: Sequence[int], base: float = 10000.0, interleaved: bool = True):
        super().__init__()
        if not axis_dims or any(dim < 2 or dim % 2 for dim in axis_dims):
            raise ValueError(f"axis_dims must be even and at least 2, got {tuple(axis_dims)}")
        self.axis_dims = tuple(axis_dims)
        self.base = base
        self.interleaved = interleaved

    def angles(self, positions: Tensor) -> Tensor:
        """Angle of each pair of channels: positions (N, A) -> (N, d/2), radians."""
        # Double precision: at long positions float32 would lose the fast pairs' phase.
        dtype = torch.float32 if positions.device.type == "mps" else torch.float64
        parts = []
        for axis, dim in enumerate(self.axis_dims):
            index = torch.arange(0, dim, 2, device=positions.device, dtype=dtype)
            frequency = self.base ** (-index / dim)  # (dim/2,)
            parts.append(positions[:, axis, None] * frequency)
        return torch.cat(parts, dim=-1)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Turn queries or keys.

        Args:
            x: (B, h, N, d).
            positions: (N, A), or (N,) if there is one axis; in tokens, fractions allowed.

        Returns:
            The same shape; norms are kept.

        Raises:
            ValueError: if d or the number of axes does not fit ``axis_dims``.
        """
        if positions.ndim == 1:
            positions = positions[:, None]
        if x.shape[-1] != sum(self.axis_dims) or positions.shape[-1] != len(self.axis_dims):
            raise ValueError(
                f"axis_dims {self.axis_dims} do not fit {x.shape[-1]} channels "
                f"and positions on {positions.shape[-1]} axes"
            )
        angles = self.angles(positions)  # (N, d/2)
        if self.interleaved:
            return turn_pairs(x, torch.stack([angles.cos(), angles.sin()], dim=-1))
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        halves = [dim // 2 for dim in self.axis_dims]
        out = []
        for part, c, s in zip(
            x.split(self.axis_dims, dim=-1),
            cos.split(halves, -1),
            sin.split(halves, -1),
            strict=True,
        ):
            first, second = part.chunk(2, dim=-1)
            out += [first * c - second * s, first * s + second * c]
        return torch.cat(out, dim=-1)
