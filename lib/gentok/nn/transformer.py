"""Feed-forward layers and the conditioning by adaptive layer norm that DiT-like blocks share.

adaLN-Zero: Peebles and Xie 2023 (DiT), 3.2. SwiGLU: Shazeer 2020.

Shapes: B batch, N tokens, D channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift, the same for every token: (B, N, D) with (B, D) -> (B, N, D)."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class Mlp(nn.Module):
    """Linear, GELU, Linear; ``approximate='tanh'`` is DiT's GELU, ``'none'`` the exact one."""

    def __init__(self, dim: int, hidden: int, approximate: str = "tanh"):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU(approximate)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(self.act(self.fc1(x)))


class SwiGLU(nn.Module):
    """W3 (SiLU(W1 x) * W2 x), with W1 and W2 in one linear layer (as LightningDiT stores them)."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class Modulation(nn.Module):
    """Linear(SiLU(c)) -> ``count`` vectors of width D; zero at first: blocks start as identity."""

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.count = count
        self.linear = nn.Linear(dim, count * dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """Condition (B, D) -> ``count`` tensors (B, D)."""
        return self.linear(F.silu(c)).chunk(self.count, dim=-1)


def init_linears_xavier(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer of ``module`` (DiT's init)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
