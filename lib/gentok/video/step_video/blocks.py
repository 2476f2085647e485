"""Blocks of Step-Video's transformer: attention over space and time, over text, and AdaLN-single.

Ma et al. 2025 (arXiv:2502.10248); the order of operations and the layout of weights follow the
released inference code. AdaLN-single: Chen et al. 2024 (PixArt-alpha), 2.3.

Shapes: B batch, N tokens (frame, row, column in raster order), M text places, D width, H heads,
d channels of a head, D = H d.
"""

import torch
from torch import Tensor, nn

from gentok.nn.attention import CrossAttention, SelfAttention
from gentok.nn.norm import RMSNorm
from gentok.nn.rope import Rope


def self_attention_3d(dim: int, num_heads: int, head_dim: int) -> SelfAttention:
    """Every latent cell reads every other; queries and keys are normalised per head, then turned.

    Released weights dictate the layout of the fused projection, head by head.
    """
    # Half of a head's channels turn with the frame, a quarter each with row and column.
    rope = Rope((head_dim // 2, head_dim // 4, head_dim // 4), interleaved=False)
    layout = {"head_dim": head_dim, "qk_norm": RMSNorm, "per_head": True}
    return SelfAttention(dim, num_heads, qkv_bias=False, rope=rope, proj_bias=False, **layout)


def text_attention(dim: int, num_heads: int, head_dim: int) -> CrossAttention:
    """Latent cells read the prompt; queries and keys are normalised per head, no positions."""
    layout = {"head_dim": head_dim, "qk_norm": RMSNorm, "per_head": True}
    return CrossAttention(dim, num_heads, bias=False, **layout)


class StepVideoBlock(nn.Module):
    """Self-attention, text attention, feed-forward, under one shared modulation (AdaLN-single).

    Six vectors come from the time, the same for all blocks; each block adds its own table of six.
    The two layer norms have weights of their own besides. Text attention has neither norm nor gate.
    """

    def __init__(self, num_heads: int, head_dim: int, mlp_ratio: int = 4):
        super().__init__()
        dim, heads = num_heads * head_dim, (num_heads, head_dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.attention = self_attention_3d(dim, *heads)
        self.text_attention = text_attention(dim, *heads)
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
        h = self.norm1(x) * (1 + scale1) + shift1
        x = x + gate1 * self.attention(h, positions=positions)
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
