"""Blocks of the causal transformer: pre-norm, attention with a preallocated cache, three MLPs.

GPT-2 (Radford et al. 2019) in minGPT's form, with the variants that the book's token generators
use: rotary positions, RMSNorm, gated MLPs, a factor on every branch.

Shapes: B batch, N new places, M all places so far, D channels, h heads, d = D / h.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.attention import merge_heads
from gentok.nn.blocks import PreNormBlock
from gentok.nn.causal import KVCache
from gentok.nn.rope import turn_pairs
from gentok.nn.transformer import Mlp, SwiGLU

POSITIONS = ("learned", "sincos", "rotary", "none")
NORMS = ("layer", "rms")
MLPS = ("gelu", "swiglu", "geglu")

# (q, k, v, visible) -> (B, h, N, d), of queries (B, h, N, d), keys and values (B, h, M, d) and a
# bool mask (N, M) or (B, 1, N, M), True where a query may read a key.
Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GptConfig:
    """Sizes of a causal transformer over tokens. The defaults are minGPT's, without its dropout.

    Args:
        vocabulary: V, all tokens together.
        length: all places, those of the prefix included.
        dim: channels D; ``num_layers`` blocks; ``num_heads`` heads, a divisor of D.
        prefix: places at the front that hold vectors (a condition) and not tokens.
        prefix_causal: False lets the prefix's places see each other in both directions.
        segments: a vocabulary per place, as runs (places, low, high): the next ``places`` tokens
            come from [low, high). None: every place has the whole vocabulary.
        positions: "learned" and "sincos" are added to the input, "rotary" turns queries and keys.
        norm: "layer" (eps 1e-5) or "rms" (eps 1e-6).
        mlp: "gelu" (two layers), "swiglu" or "geglu" (gated); ``hidden`` channels, 4 D if None.
        qkv_bias, head_bias: biases of the query-key-value projection and of the output.
        tie: one table for input embedding and output.
        dropout: on the input, the attention weights and every branch; in training only.
        layer_scale: initial factor of every branch, learned per channel; None for no factor.

    Raises:
        ValueError: if a size or name is not accepted.
    """

    vocabulary: int
    length: int
    dim: int
    num_layers: int
    num_heads: int
    prefix: int = 0
    prefix_causal: bool = True
    segments: tuple[tuple[int, int, int], ...] | None = None
    positions: str = "learned"
    norm: str = "layer"
    mlp: str = "gelu"
    hidden: int | None = None
    qkv_bias: bool = True
    head_bias: bool = False
    tie: bool = False
    dropout: float = 0.0
    layer_scale: float | None = None

    def __post_init__(self):
        if self.dim % self.num_heads or (self.positions == "rotary" and self.head_dim % 2):
            raise ValueError(
                f"num_heads must divide dim, into an even part for rotary positions, "
                f"got num_heads={self.num_heads}, dim={self.dim}"
            )
        if not 0 <= self.prefix < self.length:
            raise ValueError(f"prefix must lie in [0, {self.length}), got {self.prefix}")
        for name, known in (("positions", POSITIONS), ("norm", NORMS), ("mlp", MLPS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")

    @property
    def head_dim(self) -> int:
        """d, channels of a head."""
        return self.dim // self.num_heads

    @property
    def num_tokens(self) -> int:
        """Places that hold tokens."""
        return self.length - self.prefix

    @property
    def prefix_blocks(self) -> tuple[int, ...]:
        """The prefix as blocks: of one place each, or one block of all."""
        return (1,) * self.prefix if self.prefix_causal or not self.prefix else (self.prefix,)


class FixedKVCache(KVCache):
    """A cache that is allocated once, for ``capacity`` places: adding a place copies no other."""

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity, self.length = capacity, 0

    def __len__(self) -> int:
        return self.length

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of new places, (B, h, N, d) each; returns all, (B, h, M + N, d), as views.

        Raises:
            ValueError: if there is no room for them.
        """
        start, stop = self.length, self.length + keys.shape[2]
        if stop > self.capacity:
            raise ValueError(f"the cache holds at most {self.capacity} places, got {stop}")
        if self.keys is None:
            batch, heads, _, dim = keys.shape
            # In memory (B, M, h, d): a place's heads lie together and are written at one go.
            self.keys = keys.new_empty(batch, self.capacity, heads, dim).transpose(1, 2)
            self.values = torch.empty_like(self.keys)
        self.keys[:, :, start:stop], self.values[:, :, start:stop] = keys, values
        self.length = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def truncate(self, length: int) -> None:
        """Forget all places after the first ``length``; raises ValueError if there are fewer."""
        if not 0 <= length <= self.length:
            raise ValueError(f"length must lie in [0, {self.length}], got {length}")
        self.length = length


class Geglu(nn.Module):
    """W2 (W1 x * GELU(Wg x)), Shazeer 2020; W1 and Wg in one linear layer, in this order."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        value, gate = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(value * F.gelu(gate))


class CachedAttention(nn.Module):
    """Self-attention whose visibility is decided outside, once for all layers."""

    def __init__(self, config: GptConfig, attend: Attend | None):
        super().__init__()
        self.num_heads, self.dropout, self.attend = config.num_heads, config.dropout, attend
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.qkv_bias)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(
        self,
        x: Tensor,
        visible: Tensor | None,
        causal: bool,
        turn: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: new places, (B, N, D).
            visible: bool mask (N, M) or (B, 1, N, M); None: all are, or the causal order.
            causal: whether None stands for the causal order.
            turn: cosine and sine of each place's angles, (N, d/2, 2), or None.
            cache: what came before; the new places are added to it.

        Returns:
            (B, N, D).
        """
        h = self.num_heads
        qkv = self.qkv(x).unflatten(-1, (3 * h, -1))  # (B, N, 3h, d)
        if turn is not None:
            turned = turn_pairs(qkv[:, :, : 2 * h], turn[:, None])
            qkv = torch.cat([turned, qkv[:, :, 2 * h :]], dim=2)
        q, k, v = qkv.transpose(1, 2).split(h, dim=1)  # (B, h, N, d) each
        if cache is not None:
            k, v = cache.append(k, v)
        if self.attend is not None:
            return self.proj(merge_heads(self.attend(q, k, v, visible)))
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=visible, dropout_p=dropout, is_causal=causal
        )
        return self.proj(merge_heads(out))


class GptBlock(PreNormBlock):
    """The pre-norm block with the configuration's attention, MLP and norms.

    ``forward`` takes, besides the tokens, what :class:`CachedAttention` does.
    """

    def __init__(self, config: GptConfig, attend: Attend | None):
        dim, hidden = config.dim, config.hidden or 4 * config.dim
        if config.mlp == "gelu":
            mlp = Mlp(dim, hidden, approximate="none")
        else:
            mlp = {"swiglu": SwiGLU, "geglu": Geglu}[config.mlp](dim, hidden)
        extras = {"dropout": config.dropout, "layer_scale": config.layer_scale}
        super().__init__(dim, CachedAttention(config, attend), mlp, **extras)
        self.norm1, self.norm2 = make_norm(config), make_norm(config)


def make_norm(config: GptConfig) -> nn.Module:
    """The normalisation that the configuration names."""
    if config.norm == "rms":
        return nn.RMSNorm(config.dim, eps=1e-6)
    return nn.LayerNorm(config.dim)


def init_gpt(module: nn.Module) -> None:
    """N(0, 0.02) for weights of linear and embedding layers, zero for biases (GPT, minGPT)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
