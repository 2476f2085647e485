"""Parameter and FLOP counts against formulas."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gentok.measure import count_flops, count_parameters


def test_parameters():
    layer = nn.Linear(5, 7)
    tied = nn.Sequential(layer, nn.ReLU(), nn.Linear(7, 5), layer, nn.BatchNorm1d(7))
    assert count_parameters(tied) == (5 * 7 + 7) + (7 * 5 + 5) + 2 * 7
    layer.requires_grad_(False)
    assert count_parameters(tied, trainable=True) == (7 * 5 + 5) + 2 * 7
    assert count_parameters(nn.Linear(5, 7, device="meta")) == 42


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_linear_layer_costs_two_flops_a_multiplication(device):
    layer = nn.Linear(32, 48, device=device)
    assert count_flops(layer, torch.empty(4, 10, 32, device=device)) == 2 * 4 * 10 * 32 * 48


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention(device, causal):
    batch, heads, queries, keys, width = 2, 3, 6, 6, 8
    q = torch.zeros(batch, heads, queries, width, device=device)
    k = torch.zeros(batch, heads, keys, width, device=device)
    macs = batch * heads * (queries * keys * width + queries * keys * width)  # q k^T, weights v
    found = count_flops(F.scaled_dot_product_attention, q, k, k, is_causal=causal)
    assert found == 2 * macs


def test_convolution_and_backward():
    layer, x = nn.Conv2d(3, 8, 3, padding=1), torch.zeros(2, 3, 6, 6)
    forward = 2 * 2 * 36 * 8 * 3 * 9
    assert count_flops(layer, x) == forward
    # Backward: one product for the weights' gradient; the images need none.
    assert count_flops(lambda: layer(x).sum().backward()) == 2 * forward


def test_counting_leaves_the_result_alone():
    layer, x, seen = nn.Linear(3, 2), torch.randn(4, 3), []
    count_flops(lambda: seen.append(layer(x)))
    torch.testing.assert_close(seen[0], layer(x))


def test_peak_memory_counts_what_was_given_back():
    code = """
import torch
from gentok.measure import peak_memory
torch.ones(1).sum()
before = peak_memory()
torch.ones(300 * 2**18).sum()  # MiB of float32
print(before, peak_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert 50 < before < 4000 and 290 < after - before < 310, "MiB"
