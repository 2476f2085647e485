"""The layers of MicroDiT: a DiT block that reads a caption, and what stands before and behind it.

Sehwag et al. 2024 (arXiv:2407.15811) and its public code. Layer norms have weights and no bias;
queries and keys are normalised over the whole width, before it is cut into heads; linear layers of
attention and feed-forward have no bias.

Shapes: B batch, T tokens, L places of a caption, D width, C width of the condition.
"""

from functools import partial

import torch
from torch import Tensor, nn

from gentok.nn.attention import CrossAttention, SelfAttention
from gentok.nn.experts import Router
from gentok.nn.position import sincos_1d, timestep_features
from gentok.nn.transformer import SwiGLU, modulate, per_token

EPS = 1e-6  # of all layer norms
STD = 0.02  # of first layers' weights
TIME_FEATURES = 512

norm = partial(nn.LayerNorm, eps=EPS, bias=False)
plain_norm = partial(nn.LayerNorm, eps=EPS, elementwise_affine=False)  # of queries and keys


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is no smaller than the value."""
    return -(-value // multiple) * multiple


def positions_2d(side: int, dim: int, scale: float = 1.0) -> Tensor:
    """Sines and cosines of column, then row, each divided by ``scale``: (side * side, D).

    At twice the side and scale 2 the table spans the same range as before, twice as finely.
    """
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    halves = [sincos_1d(axis.flatten() / scale, dim // 2) for axis in (columns, rows)]
    return torch.cat(halves, dim=-1)


def self_attention(dim: int, width: int, head_dim: int) -> SelfAttention:
    """Self-attention whose heads together may be narrower than D: ``width`` channels."""
    return SelfAttention(
        dim, width // head_dim, qkv_bias=False, proj_bias=False, head_dim=head_dim,
        qk_norm=plain_norm, qk_full=True,
    )  # fmt: skip


class CaptionAttention(CrossAttention):
    """Tokens read a caption of their own width; no linear layer has a bias."""

    def __init__(self, dim: int, head_dim: int):
        super().__init__(dim, dim // head_dim, bias=False, qk_norm=plain_norm, qk_full=True)
        self.proj = nn.Linear(dim, dim, bias=False)


class NormedMlp(nn.Module):
    """Linear, GELU, LayerNorm, Linear: the norm stands behind the activation."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, out)
        self.act = nn.GELU("tanh")
        self.norm = norm(out)
        self.fc2 = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.fc2(self.norm(self.act(self.fc1(x))))

    def initialise(self) -> None:
        """Both layers small."""
        for layer in (self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=STD)


class TimeMlp(nn.Module):
    """Noise level -> vector of width D: 512 cosines and sines, Linear, GELU, Linear."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc1 = nn.Linear(TIME_FEATURES, dim)
        self.act = nn.GELU("tanh")
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        """c_noise (B,) -> (B, D)."""
        features = timestep_features(t, TIME_FEATURES).to(self.fc1.weight.dtype)
        return self.fc2(self.act(self.fc1(features)))

    def initialise(self) -> None:
        """Both layers small."""
        for layer in (self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=STD)


class GeluModulation(nn.Module):
    """Linear(GELU(c)) -> ``count`` vectors of width D, zero at first.

    Args:
        condition_dim: C, which in the patch mixer is not D; ``dim``: D.
        count: of vectors.
    """

    def __init__(self, condition_dim: int, dim: int, count: int):
        super().__init__()
        self.count = count
        self.act = nn.GELU("tanh")
        self.linear = nn.Linear(condition_dim, count * dim)

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """(B, C) -> ``count`` tensors (B, D)."""
        return self.linear(self.act(c)).chunk(self.count, dim=-1)


class CaptionBlock(nn.Module):
    """One pre-norm block over the places of a caption, padding included; it starts as identity."""

    def __init__(self, dim: int, head_dim: int, hidden: int):
        super().__init__()
        self.norm1 = norm(dim)
        self.attention = self_attention(dim, dim, head_dim)
        self.norm2 = norm(dim)
        self.mlp = SwiGLU(dim, hidden, bias=False)

    def forward(self, y: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        y = y + self.attention(self.norm1(y))
        return y + self.mlp(self.norm2(y))

    def initialise(self) -> None:
        """Small first layers; both output projections are zero."""
        initialise_branch(self.attention, STD)
        initialise_branch(self.mlp, STD)
        for layer in (self.attention.proj, self.mlp.w3):
            nn.init.zeros_(layer.weight)


class MicroBlock(nn.Module):
    """Self-attention, caption, feed-forward; the first and the last are shifted, scaled, gated.

    Args:
        dim: D; ``condition_dim``: C.
        attention: of the tokens among each other; ``caption``: of tokens to the caption.
        mlp: the feed-forward layer, dense or a mixture of experts.
        std: of the branches' last layers at the start.
    """

    def __init__(
        self,
        dim: int,
        condition_dim: int,
        attention: SelfAttention,
        caption: CaptionAttention,
        mlp: nn.Module,
        std: float,
    ):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = norm(dim), norm(dim), norm(dim)
        self.attention, self.caption, self.mlp = attention, caption, mlp
        self.modulation = GeluModulation(condition_dim, dim, 6)
        self.std = std

    def forward(self, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """Tokens (B, T, D), caption (B, L, D), condition (B, C) -> (B, T, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)
        # x + g SA(LN(x) (1 + s) + b), then x + CA(LN(x), y), then x + g FF(LN(x) (1 + s) + b)
        attended = self.attention(modulate(self.norm1(x), shift1, scale1))
        x = x + per_token(gate1, x) * attended
        x = x + self.caption(self.norm2(x), y)
        return x + per_token(gate2, x) * self.mlp(modulate(self.norm3(x), shift2, scale2))

    def initialise(self) -> None:
        """Small first layers, smaller last ones, and a modulation of zero: both gates are shut."""
        for branch in (self.attention, self.caption, self.mlp):
            initialise_branch(branch, self.std)
        nn.init.zeros_(self.modulation.linear.weight)


class Head(nn.Module):
    """A modulated norm and a linear layer; both start at zero."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.norm = norm(dim)
        self.modulation = GeluModulation(dim, dim, 2)
        self.linear = nn.Linear(dim, out)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Tokens (B, T, D) and a condition (B, D) -> (B, T, out)."""
        shift, scale = self.modulation(c)
        return self.linear(modulate(self.norm(x), shift, scale))

    def initialise(self) -> None:
        """The network's first answer is zero."""
        nn.init.zeros_(self.modulation.linear.weight)
        nn.init.zeros_(self.linear.weight)


def initialise_branch(branch: nn.Module, std: float) -> None:
    """Truncated normal weights: 0.02 in first layers, ``std`` in those that write the result.

    Of a SwiGLU the value's layer counts among the latter (public code).
    """
    first, last = [], []
    if isinstance(branch, SelfAttention):
        first, last = [branch.qkv.weight], [branch.proj.weight]
    elif isinstance(branch, CrossAttention):
        first, last = [branch.query.weight, branch.key_value.weight], [branch.proj.weight]
    elif isinstance(branch, Router):
        first, last = [branch.gate.weight, branch.experts.w1], [branch.experts.w2]
    else:
        gate, value = branch.w12.weight.data.chunk(2)
        first, last = [gate], [value, branch.w3.weight]
    for weights, spread in ((first, STD), (last, std)):
        for weight in weights:
            nn.init.trunc_normal_(weight, std=spread)
