"""Root-mean-square normalisation with a backward pass of its own (Zhang and Sennrich 2019).

PyTorch has no kernel for it on the CPU: `nn.RMSNorm` is a chain of small operations there, and its
gradient five times as dear as LayerNorm's. Written down once, the gradient is short:

    y = r x,  r = (mean x^2 + eps)^(-1/2),  out = w y
    dL/dx = r (w g - y mean(w g y)),  dL/dw = sum of g y,  with g = dL/d out

Shapes: D channels on the last axis; other axes are arbitrary.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Normalise(torch.autograd.Function):
    """w x / rms(x), or x / rms(x) if the weight is None; statistics in float32 at least."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        x = x.contiguous()
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        # The norm is read off in one pass, without a tensor of squares.
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        r = (norm.square() / x.shape[-1] + eps).rsqrt()  # (..., 1)
        y = (wide * r).to(x.dtype)
        ctx.save_for_backward(y, r, weight)
        return y if weight is None else y * weight

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor | None, None]:
        y, r, weight = ctx.saved_tensors
        product = g * y
        if weight is None:
            mean = product.mean(-1, keepdim=True)
            return (g - y * mean).mul_(r).to(y.dtype), None, None
        mean = (product @ weight.to(product.dtype))[..., None] / y.shape[-1]  # of w g y, (..., 1)
        of_x = (g * weight).addcmul_(y, mean, value=-1).mul_(r)
        return of_x.to(y.dtype), product.reshape(-1, y.shape[-1]).sum(0).to(weight.dtype), None


class RMSNorm(nn.Module):
    """w x / sqrt(mean x^2 + eps) over the last axis; a gradient of its gradient is refused.

    Args:
        dim: D.
        eps: added to the mean square.
        affine: learn the weight w, (D,), 1 at first.
    """

    def __init__(self, dim: int, eps: float = 1e-6, affine: bool = True):
        super().__init__()
        self.dim = dim
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D).

        Raises:
            ValueError: if the last axis is not D.
        """
        if x.shape[-1] != self.dim:
            raise ValueError(f"x must have {self.dim} channels, got {tuple(x.shape)}")
        return _Normalise.apply(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.dim}, eps={self.eps}, affine={self.weight is not None}"
