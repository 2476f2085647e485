"""RMSNorm against torch's, its own gradient against finite differences, and narrow types."""

import pytest
import torch
from torch import nn

from gentok.nn.norm import RMSNorm


def pair(dim: int = 24) -> tuple[RMSNorm, nn.RMSNorm]:
    """Ours and torch's with the same random weight, double precision."""
    ours, theirs = RMSNorm(dim).double(), nn.RMSNorm(dim, eps=1e-6).double()
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("shape", [(3, 5, 24), (24,), (2, 3, 4, 24)])
def test_equals_torch_forward_and_backward(shape):
    ours, theirs = pair()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    g = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    mine = torch.autograd.grad(ours(x), (x, ours.weight), g)
    reference = torch.autograd.grad(theirs(x), (x, theirs.weight), g)
    torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("affine", [True, False])
def test_gradient_by_finite_differences(affine):
    layer = RMSNorm(6, eps=0.1, affine=affine).double()
    if affine:
        nn.init.normal_(layer.weight)
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    inputs = (x, *layer.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), inputs)


def test_tokens_in_another_order_of_memory():
    """A transposed map as input; the output is contiguous, so that what follows stays fast."""
    ours, theirs = pair(8)
    x = torch.randn(2, 8, 5, dtype=torch.float64).transpose(1, 2).requires_grad_()
    y = ours(x)
    assert y.is_contiguous()
    torch.testing.assert_close(y, theirs(x))
    g = torch.randn(2, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(*(torch.autograd.grad(f(x), x, g)[0] for f in (ours, theirs)))


def test_zeros_stay_zero():
    x = torch.zeros(2, 8, requires_grad=True)
    RMSNorm(8)(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_statistics_of_bfloat16_are_float32():
    x = torch.full((1, 4096), 0.1, dtype=torch.bfloat16, requires_grad=True)
    y = RMSNorm(4096, affine=False)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, torch.ones_like(y), rtol=0.01, atol=0)
    y.sum().backward()
    assert x.grad.dtype == torch.bfloat16


def test_runs_under_autocast():
    layer, linear = RMSNorm(8), nn.Linear(8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = linear(layer(linear(torch.randn(2, 8)))).float().square().sum()
    total.backward()
    assert layer.weight.grad.dtype == torch.float32 and layer.weight.grad.abs().sum() > 0


def test_a_gradient_of_the_gradient_is_refused():
    x = torch.randn(2, 8, requires_grad=True)
    (g,) = torch.autograd.grad(RMSNorm(8)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_graph_traces_under_compile():
    """Dynamo takes the function in; the eager backend needs no compiler."""
    layer = RMSNorm(8)
    nn.init.normal_(layer.weight)
    fast = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(3, 8, requires_grad=True)
    torch.testing.assert_close(fast(x), layer(x))
    grads = [torch.autograd.grad(f(x).square().sum(), x)[0] for f in (fast, layer)]
    torch.testing.assert_close(*grads)


def test_runs_on_the_meta_device():
    with torch.device("meta"):
        assert RMSNorm(8)(torch.empty(2, 8)).shape == (2, 8)


def test_wrong_width():
    with pytest.raises(ValueError, match=r"x must have 8 channels, got \(2, 7\)"):
        RMSNorm(8)(torch.zeros(2, 7))
