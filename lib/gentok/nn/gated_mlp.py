"""The gated feed-forward layer (Shazeer 2020): one branch decides how much of the other passes.

With SiLU it is Llama's SwiGLU, with GELU ViTok's public code. Three matrices, each by itself: they
are initialised by their own shapes, which one fused matrix would hide.

Shapes: D channels.
"""

from torch import Tensor, nn

GATES = {"gelu": nn.GELU, "silu": nn.SiLU}


class GatedMlp(nn.Module):
    """fc3(gate(fc1 x) * fc2 x).

    Args:
        dim: D; ``hidden``: width of both branches.
        gate: ``"gelu"`` (the exact one) or ``"silu"``.

    Raises:
        ValueError: if the gate is unknown.
    """

    def __init__(self, dim: int, hidden: int, gate: str = "gelu"):
        super().__init__()
        if gate not in GATES:
            raise ValueError(f"unknown gate {gate!r}; accepted: {', '.join(GATES)}")
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(dim, hidden)
        self.fc3 = nn.Linear(hidden, dim)
        self.gate = GATES[gate]()

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc3(self.gate(self.fc1(x)) * self.fc2(x))
