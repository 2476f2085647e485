"""Blocks of Step-Video's transformer: attention over space and time, over text, and AdaLN-single.

Ma et al. 2025 (arXiv:2502.10248); the order of operations and the layout of weights follow the
released inference code. AdaLN-single: Chen et al. 2024 (PixArt-alpha), 2.3.

Shapes: B batch, N tokens (frame, row, column in raster order), M text places, D width, H heads,
d channels of a head, D = H d.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.attention import merge_heads
from gentok.nn.rope import Rope


class SelfAttention3d(nn.Module):
    """Every latent cell reads every other; queries and keys are normalised per head, then turned.

    The fused projection is laid out head by head, [q | k | v] of the first head, then of the
    second; released weights fit only this order.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.k_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.proj = nn.Linear(dim, dim, bias=False)
        # Half of a head's channels turn with the frame, a quarter each with row and column.
        self.rope = Rope((head_dim // 2, head_dim // 4, head_dim // 4), interleaved=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Tokens (B, N, D), whole-number positions (N, 3) as (frame, row, column) -> (B, N, D)."""
        heads = self.qkv(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, N, 3d)
        q, k, v = heads.chunk(3, dim=-1)
        q, k = self.rope(self.q_norm(q), positions), self.rope(self.k_norm(k), positions)
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class TextAttention(nn.Module):
    """Latent cells read the prompt; queries and keys are normalised per head, no positions."""

    def __init__(self, dim: int, num_heads: int, head_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)  # per head [k | v]
        self.q_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.k_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, N, D), text (B, M, D), mask (B, M), True where there is text -> (B, N, D)."""
        q = self.query(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, N, d)
        pairs = self.key_value(text).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = pairs.chunk(2, dim=-1)  # (B, H, M, d)
        q, k = self.q_norm(q), self.k_norm(k)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        return self.proj(merge_heads(out))


class StepVideoBlock(nn.Module):
    """Self-attention, text attention, feed-forward, under one shared modulation (AdaLN-single).

    Six vectors come from the time, the same for all blocks; each block adds its own table of six.
    The two layer norms have weights of their own besides. Text attention has neither norm nor gate.
    """

    def __init__(self, num_heads: int, head_dim: int, mlp_ratio: int = 4):
        super().__init__()
        dim, heads = num_heads * head_dim, (num_heads, head_dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.attention = SelfAttention3d(dim, *heads)
        self.text_attention = TextAttention(dim, *heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_ratio * dim, bias=False),
            nn.GELU("tanh"),
            nn.Linear(mlp_ratio * dim, dim, bias=False),
        )
        self.table = nn.Parameter(torch.randn(6, dim) / dim**0.5)

    def forward(
        self, x: Tensor, positions: Tensor, text: Tensor, mask: Tensor, time: Tensor
    ) -> Tensor:
        """Tokens (B, N, D), time's six vectors (B, 6, D), text and mask -> tokens (B, N, D)."""
        six = (self.table + time).chunk(6, dim=1)  # each (B, 1, D)
        shift1, scale1, gate1, shift2, scale2, gate2 = six
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1, positions)
        x = x + self.text_attention(x, text, mask)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class TextProjection(nn.Module):
    """The two texts as one sequence of width D: CLIP's places first, then the language model's."""

    def __init__(self, clip_dim: int, llm_dim: int, dim: int):
        super().__init__()
        self.clip = nn.Linear(clip_dim, dim)
        self.norm = nn.LayerNorm(llm_dim, eps=1e-6, elementwise_affine=False)
        self.llm = nn.Sequential(nn.Linear(llm_dim, dim), nn.GELU("tanh"), nn.Linear(dim, dim))

    def forward(self, clip: Tensor, llm: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L_clip, D_clip), (B, L, D_llm), (B, L) bool -> text (B, M, D), its mask (B, M)."""
        text = torch.cat([self.clip(clip), self.llm(self.norm(llm))], dim=1)
        everywhere = torch.ones(clip.shape[:2], dtype=torch.bool, device=mask.device)
        return text, torch.cat([everywhere, mask], dim=1)
