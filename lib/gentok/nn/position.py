"""Where a token stands: sine-cosine tables, time features and rotary embeddings.

Sine-cosine: Vaswani et al. 2017, 3.5. Rotary: Su et al. 2021 (RoFormer), here axial in two
dimensions as in vision transformers: half of a head's channels turn with the row, half with the
column.

Shapes: B batch, N tokens, D channels, h number of heads, d channels of a head.
"""

import torch
from torch import Tensor, nn

from gentok.nn.rope import Rope, grid_positions, turn_pairs


def sincos_1d(positions: Tensor, dim: int, base: float = 10000.0) -> Tensor:
    """Sines, then cosines, of positions at geometrically spaced frequencies.

    Args:
        positions: any shape (...), in tokens.
        dim: even number of features.

    Returns:
        (..., dim), in [-1, 1]: [sin(p f_i), cos(p f_i)] with f_i = base^(-2i/dim).

    Raises:
        ValueError: if ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"dim must be even, got {dim}")
    frequencies = base ** (-torch.arange(dim // 2, device=positions.device) / (dim // 2))
    angles = positions[..., None].float() * frequencies  # (..., dim/2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def sincos_2d(height: int, width: int, dim: int) -> Tensor:
    """Fixed table for a grid in raster order; the first half encodes the column, as DiT's does.

    Returns:
        (height * width, dim), in [-1, 1].

    Raises:
        ValueError: if ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4, got {dim}")
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    halves = [sincos_1d(axis.flatten(), dim // 2) for axis in (columns, rows)]
    return torch.cat(halves, dim=-1)


def timestep_features(t: Tensor, dim: int, base: float = 10000.0) -> Tensor:
    """Cosines, then sines, of a time (DiT's order, the reverse of :func:`sincos_1d`).

    Args:
        t: times, (B,); their unit is the caller's (steps for DDPM, [0, 1] for SiT).

    Returns:
        (B, dim).
    """
    sines, cosines = sincos_1d(t, dim, base).chunk(2, dim=-1)
    return torch.cat([cosines, sines], dim=-1)


class AxialRope2d(nn.Module):
    """Rotations for queries and keys on a fixed grid, as a table: :class:`Rope` on two axes.

    Args:
        height, width: grid size; tokens in raster order.
        head_dim: channels d of a head, a multiple of 4.
        base: slowest frequency is about 1/base radians a token.

    Raises:
        ValueError: if ``head_dim`` is not a multiple of 4.
    """

    def __init__(self, height: int, width: int, head_dim: int, base: float = 10000.0):
        super().__init__()
        if head_dim % 4:
            raise ValueError(f"head_dim must be a multiple of 4, got {head_dim}")
        rope = Rope((head_dim // 2, head_dim // 2), base)
        angles = rope.angles(grid_positions(height, width)).float()  # (N, d/2)
        # Two real numbers a pair, not one complex: `module.to(dtype)` would drop imaginary parts.
        turns = torch.stack([angles.cos(), angles.sin()], dim=-1)  # (N, d/2, 2)
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn each pair of channels by its token's angle.

        Args:
            x: queries or keys, (B, h, N, d).

        Returns:
            The same shape; norms are kept.
        """
        return turn_pairs(x, self.turns)


class TimestepEmbedding(nn.Module):
    """Time -> width-D vector: 256 features, Linear, SiLU, Linear (DiT; SiT passes t in [0, 1])."""

    def __init__(self, dim: int, num_features: int = 256):
        super().__init__()
        self.num_features = num_features
        self.mlp = nn.Sequential(nn.Linear(num_features, dim), nn.SiLU(), nn.Linear(dim, dim))
        for layer in (self.mlp[0], self.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B, D)."""
        return self.mlp(timestep_features(t, self.num_features).to(self.mlp[0].weight.dtype))


class LabelEmbedding(nn.Module):
    """A table of class vectors with one more row for 'no class' (Ho and Salimans 2022).

    In training a label becomes the null class with probability ``drop``; guidance needs both.
    """

    def __init__(self, num_classes: int, dim: int, drop: float = 0.1):
        super().__init__()
        self.num_classes = num_classes
        self.drop = drop
        self.table = nn.Embedding(num_classes + 1, dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, label: Tensor) -> Tensor:
        """Args: ``label`` (B,) int64 in [0, num_classes], the last being null. Returns (B, D)."""
        if self.training and self.drop > 0:
            dropped = torch.rand(label.shape, device=label.device) < self.drop
            label = torch.where(dropped, self.num_classes, label)
        return self.table(label)


def check_label(label: Tensor, num_classes: int) -> None:
    """Raise ValueError unless labels are int64 in [0, num_classes]; the last is the null class."""
    if label.dtype != torch.int64:
        raise ValueError(f"label must be int64, got {label.dtype}")
    if label.is_meta or label.numel() == 0:
        return
    low, high = int(label.min()), int(label.max())
    if low < 0 or high > num_classes:
        raise ValueError(f"label must lie in [0, {num_classes}], got [{low}, {high}]")


def labels_to_draw(n: int, label: int | Tensor | None, num_classes: int) -> Tensor:
    """The classes of ``n`` samples, (n,) int64.

    Args:
        label: one class for all, (n,) classes, or None for random ones.

    Raises:
        ValueError: if a label is out of range, or their number is not ``n``.
    """
    if label is None:
        return torch.randint(num_classes, (n,))
    label = torch.full((n,), label) if isinstance(label, int) else label
    if label.shape != (n,):
        raise ValueError(f"label must be an int or ({n},) classes, got {tuple(label.shape)}")
    check_label(label, num_classes)
    return label
