"""Feed-forward layers and the conditioning by adaptive layer norm that DiT-like blocks share.

adaLN-Zero: Peebles and Xie 2023 (DiT), 3.2. SwiGLU: Shazeer 2020.

Shapes: B batch, N tokens, D channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift: tokens (B, N, D), vectors of samples (B, D) or of tokens (B, N, D)."""
    return torch.addcmul(per_token(shift, x), x, 1 + per_token(scale, x))


def per_token(vector: Tensor, x: Tensor) -> Tensor:
    """A sample's vector (B, D) with an axis for tokens, (B, 1, D); a token's (B, N, D) as it is."""
    return vector[:, None] if vector.ndim < x.ndim else vector


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), the GELU of CLIP, CvT and the Axial Transformer's code."""

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        return x * torch.sigmoid(1.702 * x)


class Mlp(nn.Module):
    """Linear, GELU, Linear.

    Args:
        dim: D; ``hidden``: width between the layers.
        approximate: ``"tanh"`` is DiT's GELU, ``"none"`` the exact one, ``"quick"`` x sigmoid(1.702
            x).
    """

    def __init__(self, dim: int, hidden: int, approximate: str = "tanh"):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = QuickGELU() if approximate == "quick" else nn.GELU(approximate)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(self.act(self.fc1(x)))


class SwiGLU(nn.Module):
    """W3 (SiLU(W1 x) * W2 x), with W1 and W2 in one linear layer (as LightningDiT stores them)."""

    def __init__(self, dim: int, hidden: int, bias: bool = True):
        super().__init__()
        self.w12 = nn.Linear(dim, 2 * hidden, bias=bias)
        self.w3 = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        # Two products with the halves of the weight: one product would be cut in two afterwards,
        # and its gradient put together again by a copy as large as the hidden layer.
        gate, value = (F.linear(x, *half) for half in self._halves())
        return self.w3(F.silu(gate) * value)

    def _halves(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weight (hidden, D) and bias (hidden,) of W1, then of W2."""
        weights, bias = self.w12.weight.chunk(2), self.w12.bias
        return list(zip(weights, (None, None) if bias is None else bias.chunk(2), strict=True))


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
