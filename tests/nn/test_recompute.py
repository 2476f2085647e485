"""Checkpointed steps leave the state of plain ones."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gentok.nn.quantize import VectorQuantizer
from gentok.nn.recompute import computed_again


class Small(nn.Module):
    """Batch norm, then a codebook that training moves."""

    def __init__(self, momentum):
        super().__init__()
        self.norm = nn.BatchNorm1d(4, momentum=momentum)
        self.codes = VectorQuantizer(6, 4, decay=0.5)

    def loss(self, x):
        """The quantizer's own."""
        z_q, _, loss = self.codes(self.norm(x)[None])
        return z_q.square().mean() + loss.sum()


def trained(model, again: bool):
    losses = []
    for step in range(3):
        torch.manual_seed(step)
        x = 2 + torch.randn(32, 4)
        with computed_again(model):
            loss = checkpoint(model.loss, x, use_reentrant=False) if again else model.loss(x)
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
    assert int(model.norm.num_batches_tracked) == 3 and other.norm.momentum == momentum
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        assert one.grad is None or torch.equal(one.grad, two.grad)


def test_without_it_batch_norm_averages_twice():
    """What PyTorch does by itself: the reason for the block."""
    norm, x = nn.BatchNorm1d(4).train(), torch.randn(32, 4)
    norm.weight.data.fill_(2.0)
    checkpoint(norm, x, use_reentrant=False).sum().backward()
    assert int(norm.num_batches_tracked) == 2


def test_the_layers_are_given_back_after_an_error():
    model = Small(0.1).train()
    with pytest.raises(ZeroDivisionError), computed_again(model):
        raise ZeroDivisionError
    assert not model.norm._forward_hooks and not model.norm._forward_pre_hooks
    with computed_again(model):  # no block is left open
        pass
