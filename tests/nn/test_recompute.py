"""Checkpointed steps leave the losses, the gradients and the state of plain ones."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from gentok.nn.gather import whole_step
from gentok.nn.quantize import VectorQuantizer
from gentok.nn.recompute import checkpointed


class Small(nn.Module):
    """Batch norm and a spectral norm, used twice, then a codebook that training moves."""

    def __init__(self, momentum):
        super().__init__()
        self.norm = nn.BatchNorm1d(4, momentum=momentum)
        self.linear = spectral_norm(nn.Linear(4, 4))
        self.codes = VectorQuantizer(6, 4, decay=0.5)

    def loss(self, x):
        """Of the quantizer and of what it is given."""
        y = self.linear(self.norm(self.linear(self.norm(x)) + x))
        z_q, _, loss = self.codes(y[None])
        return z_q.square().mean() + loss.sum()


def trained(model, again: bool):
    losses = []
    for step in range(3):
        torch.manual_seed(step)
        x = 2 + torch.randn(32, 4)
        with whole_step():
            loss = checkpointed(model.loss, model, x) if again else model.loss(x)
            loss.backward()
        losses.append(float(loss.detach()))
    return losses, model.state_dict()


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
def test_state_moves_once_though_layers_are_computed_twice(momentum):
    torch.manual_seed(0)
    model = Small(momentum).train()
    other = copy.deepcopy(model)
    plain, again = trained(model, False), trained(other, True)
    assert again[0] == plain[0] and set(again[1]) == set(plain[1])
    for name, value in plain[1].items():
        assert torch.equal(again[1][name], value), name
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        assert one.grad is None or torch.equal(one.grad, two.grad)


def test_without_it_batch_norm_averages_twice():
    """What PyTorch does by itself: the reason for the module."""
    norm, x = nn.BatchNorm1d(4).train(), torch.randn(32, 4)
    checkpoint(norm, x, use_reentrant=False).square().sum().backward()
    assert int(norm.num_batches_tracked) == 2
    checkpointed(norm, norm, x).square().sum().backward()
    assert int(norm.num_batches_tracked) == 3


def test_the_buffers_are_given_back_after_an_error():
    norm = nn.BatchNorm1d(4).train()
    mean = norm.running_mean
    calls = []

    def breaks(x):
        calls.append(0)
        if len(calls) == 2:
            raise ZeroDivisionError
        return norm(x)

    with pytest.raises(ZeroDivisionError):
        checkpointed(breaks, norm, torch.randn(8, 4)).square().sum().backward()
    assert norm.running_mean is mean


def test_two_backward_passes_start_from_the_same_state():
    norm, x = nn.BatchNorm1d(4).train(), torch.randn(8, 4, requires_grad=True)
    loss = checkpointed(norm, norm, x).pow(3).sum()
    first = torch.autograd.grad(loss, x, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, x)[0], first)
    assert int(norm.num_batches_tracked) == 1
