"""Feed-forward layers nested by prefix, and the block around them.

MatFormer (Devvrit et al. 2024, arXiv:2310.07707), section 3. Every width m uses rows 0..m-1 of the
first matrix and its bias, and columns 0..m-1 of the second; the second bias is shared by all
widths, as in the released code. One order of neurons serves all: that makes the widths nested.

Shapes: B batch, N tokens, D channels, F hidden neurons, m <= F neurons in use.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.blocks import PreNormBlock
from gentok.nn.causal import KVCache


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2, the other activation that the paper names."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "squared_relu": squared_relu,
}


class NestedFeedForward(nn.Module):
    """Linear, activation, linear, with any number of the first neurons.

    Args:
        dim: channels D.
        hidden: neurons F.
        bias: biases on both layers.
        activation: a name in `ACTIVATIONS`.

    Raises:
        ValueError: if the activation is unknown.
    """

    def __init__(self, dim: int, hidden: int, bias: bool = True, activation: str = "gelu"):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; accepted: {list(ACTIVATIONS)}")
        self.hidden = hidden
        self.activation = activation
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor, width: int | None = None) -> Tensor:
        """Use the first ``width`` neurons, all if None: (..., D) -> (..., D)."""
        m = check_width(width, self.hidden)
        bias = None if self.up.bias is None else self.up.bias[:m]
        h = ACTIVATIONS[self.activation](F.linear(x, self.up.weight[:m], bias))  # (..., m)
        return F.linear(h, self.down.weight[:, :m], self.down.bias)

    def masked(self, x: Tensor, keep: Tensor) -> Tensor:
        """The same with a mask instead of a slice, as the released vision code does it.

        Args:
            x: (..., D).
            keep: (F,), 1 for neurons in use, 0 for the others; it multiplies *before* the
                activation, which is exact only because the activation maps 0 to 0.
        """
        h = ACTIVATIONS[self.activation](self.up(x) * keep)
        return self.down(h)

    @torch.no_grad()
    def extract(self, width: int) -> "NestedFeedForward":
        """A layer of its own with the first ``width`` neurons; its weights are copies."""
        m = check_width(width, self.hidden)
        has_bias = self.up.bias is not None
        out = NestedFeedForward(self.up.in_features, m, has_bias, self.activation)
        out.to(self.up.weight)
        out.up.weight.copy_(self.up.weight[:m])
        out.down.weight.copy_(self.down.weight[:, :m])
        if has_bias:
            out.up.bias.copy_(self.up.bias[:m])
            out.down.bias.copy_(self.down.bias)  # shared by all widths, never sliced
        return out


class NestedGated(nn.Module):
    """Gated layer down(SiLU(gate x) * up x), nested alike: rows of gate and up, columns of down.

    The activation acts on the gate alone. A public reproduction applies it to the product, which
    is not SwiGLU; a submodel taken from it and put in an ordinary network gives wrong outputs.
    """

    def __init__(self, dim: int, hidden: int, bias: bool = False):
        super().__init__()
        self.hidden = hidden
        self.gate = nn.Linear(dim, hidden, bias=bias)
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor, width: int | None = None) -> Tensor:
        """Use the first ``width`` neurons, all if None: (..., D) -> (..., D)."""
        m = check_width(width, self.hidden)
        gate, up = (
            F.linear(x, layer.weight[:m], None if layer.bias is None else layer.bias[:m])
            for layer in (self.gate, self.up)
        )
        return F.linear(F.silu(gate) * up, self.down.weight[:, :m], self.down.bias)

    @torch.no_grad()
    def extract(self, width: int) -> "NestedGated":
        """A layer of its own with the first ``width`` neurons; its weights are copies."""
        m = check_width(width, self.hidden)
        has_bias = self.gate.bias is not None
        out = NestedGated(self.gate.in_features, m, has_bias).to(self.gate.weight)
        for ours, whole in ((out.gate, self.gate), (out.up, self.up)):
            ours.weight.copy_(whole.weight[:m])
            if has_bias:
                ours.bias.copy_(whole.bias[:m])
        out.down.weight.copy_(self.down.weight[:, :m])
        if has_bias:
            out.down.bias.copy_(self.down.bias)
        return out


def check_width(width: int | None, hidden: int) -> int:
    """The number of neurons to use.

    Raises:
        ValueError: if it is not in [1, hidden].
    """
    if width is None:
        return hidden
    if not 1 <= width <= hidden:
        raise ValueError(f"width must lie in [1, {hidden}], got {width}")
    return width


class Block(PreNormBlock):
    """The book's pre-norm block, told how many neurons of its feed-forward layer to use.

    Args:
        dim: channels D.
        attention: gets the normalised tokens and a cache.
        mlp: a nested feed-forward layer.
        eps: of both layer norms.
        drop_path: rate of stochastic depth; ``dropout``: on both branches.
    """

    def forward(self, x: Tensor, width: int | None = None, cache: KVCache | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D) with the first ``width`` neurons; a cache holds earlier tokens."""
        x = self.attend(x, cache)
        return x + self._branch(self.mlp(self.norm2(x), width), None)
