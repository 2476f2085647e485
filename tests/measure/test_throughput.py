"""The share of a device's arithmetic that a training uses."""

import torch
from torch import nn

from gentok.measure.throughput import Share, training_share


class Line(nn.Module):
    """One linear layer that learns to give zeros."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 32)

    def loss(self, batch, step=0):
        return self.linear(batch["x"]).square().mean(), {}


def test_the_operations_of_a_step_are_those_of_both_passes():
    model, x = Line(), torch.randn(16, 64)
    before = model.linear.weight.clone()
    share = training_share(model, {"x": x}, steps=2, size=64)
    products = 2  # forward, and the gradient of the weights: the input needs none
    expected = products * 2 * 16 * 64 * 32
    assert round(share.training * share.seconds) == expected
    assert share.peak > 0 and not torch.equal(before, model.linear.weight)
    assert all(p.grad is None for p in model.parameters())


def test_a_share_reads_as_a_sentence():
    text = str(Share(training=3e14, peak=6e14, seconds=0.25))
    assert text == "50% of the matrix peak (300 of 600 TFLOP/s, 0.25 s a step)"
