"""The two-stream block: published counts, and a restatement without shared parts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gentok.nn.rope import Rope, grid_positions
from gentok.nn.two_stream import TwoStreamBlock

SIZES = {"dim": 24, "num_heads": 4, "kv_heads": 2, "hidden": 20}


def awake() -> TwoStreamBlock:
    torch.manual_seed(0)
    block = TwoStreamBlock(**SIZES, rope=Rope((2, 2, 2), interleaved=False))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


def inputs() -> tuple:
    torch.manual_seed(1)
    conditions = (torch.randn(2, 24), torch.randn(2, 24))
    return torch.randn(2, 8, 24), torch.randn(2, 4, 24), conditions, grid_positions(3, 2, 2)


def test_counts_of_lavin_dit():
    """The 3.4B model: 26,547,840 in attention, 42,467,328 an MLP, 21,242,880 a modulation."""
    with torch.device("meta"):
        block = TwoStreamBlock(2304, 32, 8, 6144, Rope((24, 24, 24), interleaved=False))

    def count(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    streams = block.context, block.target
    assert count(*(s.attention for s in streams)) == 26_547_840
    assert {count(s.mlp) for s in streams} == {42_467_328}
    assert {count(s.modulation) for s in streams} == {21_242_880}


def test_block_written_out():
    block, (context, x, conditions, positions) = awake(), inputs()
    angles = positions.float()  # two channels an axis: one pair, of frequency 1
    cos, sin = (f(angles).repeat_interleave(2, -1) for f in (torch.cos, torch.sin))

    def rms(v, weight=None):
        y = v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return y if weight is None else y * weight

    def turn(v):  # (B, heads, 12, 6): each axis has its own pair of channels
        swapped = torch.stack([-v[..., 1::2], v[..., 0::2]], dim=-1).flatten(-2)
        return v * cos + swapped * sin

    rows, turns = [], []
    for stream, part, c in zip(
        (block.context, block.target), (context, x), conditions, strict=True
    ):
        turns.append(stream.modulation.linear(F.silu(c))[:, None].chunk(4, dim=-1))
        h = rms(part) * (1 + turns[-1][0])
        q, k, v = (h @ stream.attention.qkv.weight.T).split([24, 12, 12], dim=-1)
        q, k = rms(q, stream.attention.q_norm.weight), rms(k, stream.attention.k_norm.weight)
        rows.append([t.unflatten(-1, (-1, 6)).transpose(1, 2) for t in (q, k, v)])
    q, k, v = (torch.cat(pair, dim=2) for pair in zip(*rows, strict=True))
    k, v = (t.repeat_interleave(2, 1) for t in (k, v))  # a head of keys for two of queries
    mixed = ((turn(q) @ turn(k).mT / 6**0.5).softmax(-1) @ v).transpose(1, 2).flatten(-2)
    expected = []
    for stream, part, turned, a in zip(
        (block.context, block.target), (context, x), turns, mixed.split([8, 4], 1), strict=True
    ):
        part = part + turned[1].tanh() * rms(a @ stream.attention.proj.weight.T)
        h = rms(part) * (1 + turned[2])
        gate, value = (h @ stream.mlp.w12.weight.T).chunk(2, -1)
        fed = (F.silu(gate) * value) @ stream.mlp.w3.weight.T
        expected.append(part + turned[3].tanh() * rms(fed))
    torch.testing.assert_close(
        block(context, x, conditions, positions), tuple(expected), rtol=1e-4, atol=1e-5
    )


def test_starts_as_identity_and_each_stream_reads_the_other():
    context, x, conditions, positions = inputs()
    fresh = TwoStreamBlock(**SIZES, rope=Rope((2, 2, 2), interleaved=False))
    assert all(map(torch.equal, fresh(context, x, conditions, positions), (context, x)))
    block = awake()
    before = block(context, x, conditions, positions)
    moved_context = block(context + torch.randn(2, 8, 24), x, conditions, positions)[1]
    moved_target = block(context, x + torch.randn(2, 4, 24), conditions, positions)[0]
    assert not torch.allclose(moved_context, before[1], atol=1e-3)
    assert not torch.allclose(moved_target, before[0], atol=1e-3)


def test_bad_heads():
    with pytest.raises(ValueError, match="kv_heads must divide num_heads"):
        TwoStreamBlock(24, 4, 3, 20, Rope((6,)))
