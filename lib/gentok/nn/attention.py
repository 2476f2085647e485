"""Multi-head attention on PyTorch's fused kernel (Vaswani et al. 2017, 3.2).

Shapes: B batch, N query tokens, M key tokens, D channels, h heads, d = D / h.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.position import AxialRope2d


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, D) -> (B, h, N, d)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, h, N, d) -> (B, N, D)."""
    return x.transpose(1, 2).flatten(-2)


class SelfAttention(nn.Module):
    """Every token reads every other token.

    Args:
        dim: channels D.
        num_heads: h; must divide ``dim``.
        qkv_bias: bias on the fused query-key-value projection.
        rope: rotary embedding applied to queries and keys, or None.

    Raises:
        ValueError: if ``num_heads`` does not divide ``dim``.
    """

    def __init__(
        self, dim: int, num_heads: int, qkv_bias: bool = True, rope: AxialRope2d | None = None
    ):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got num_heads={num_heads}, dim={dim}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.rope = rope

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: tokens, (B, N, D).
            mask: None, or bool (N, N) or (B, 1, N, N); True where a query may read a key.

        Returns:
            (B, N, D).
        """
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        if self.rope is not None:
            q, k = self.rope(q), self.rope(k)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, h, N, d)
        return self.proj(merge_heads(out))
