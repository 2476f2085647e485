"""Attention and feed-forward layers against torch, transformers and the written-out formula."""

import pytest
import torch
from torch import nn
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTAttention

from gentok.nn.attention import SelfAttention
from gentok.nn.position import AxialRope2d
from gentok.nn.transformer import Mlp, Modulation, SwiGLU, init_linears_xavier, modulate


def test_equals_torch_multihead_attention():
    ours, theirs = SelfAttention(24, 4), nn.MultiheadAttention(24, 4, batch_first=True)
    theirs.in_proj_weight.data.copy_(ours.qkv.weight)
    theirs.in_proj_bias.data.copy_(ours.qkv.bias)
    theirs.out_proj.load_state_dict(ours.proj.state_dict())
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], atol=1e-5, rtol=1e-4)
    mask = torch.ones(7, 7, dtype=torch.bool).tril()
    expected = theirs(x, x, x, attn_mask=~mask)[0]  # there True means hidden
    torch.testing.assert_close(ours(x, mask), expected, atol=1e-5, rtol=1e-4)


def test_equals_transformers_vit_attention():
    config = ViTConfig(hidden_size=24, num_attention_heads=4, attn_implementation="eager")
    theirs, ours = ViTAttention(config).eval(), SelfAttention(24, 4)
    named = dict(theirs.named_parameters())
    pick = lambda *words: next(v for k, v in named.items() if all(w in k for w in words))  # noqa: E731
    for kind in ("weight", "bias"):
        rows = [pick(word, kind) for word in _qkv_names(named)]
        getattr(ours.qkv, kind).data.copy_(torch.cat(rows))
        out = "o_proj" if any("o_proj" in k for k in named) else "output"
        getattr(ours.proj, kind).data.copy_(pick(out, kind))
    x = torch.randn(2, 7, 24)
    result = theirs(x)
    result = result[0] if isinstance(result, tuple) else result
    torch.testing.assert_close(ours(x), result, atol=1e-5, rtol=1e-4)


def _qkv_names(named):
    if any("q_proj" in k for k in named):
        return ("q_proj", "k_proj", "v_proj")
    return ("query", "key", "value")


def test_written_out_formula_with_rope():
    rope = AxialRope2d(2, 3, 8)
    layer, x = SelfAttention(16, 2, rope=rope), torch.randn(1, 6, 16)
    q, k, v = layer.qkv(x).view(1, 6, 3, 2, 8).permute(2, 0, 3, 1, 4)
    weights = (rope(q) @ rope(k).transpose(-1, -2) / 8**0.5).softmax(-1)
    expected = layer.proj((weights @ v).transpose(1, 2).reshape(1, 6, 16))
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)


def test_a_hidden_key_cannot_be_read():
    layer, mask = SelfAttention(8, 2), torch.ones(4, 4, dtype=torch.bool).tril()
    x = torch.randn(1, 4, 8, requires_grad=True)
    layer(x, mask)[0, 1].sum().backward()
    assert x.grad[0, 2:].abs().max() == 0 and x.grad[0, :2].abs().min() > 0


def test_heads_must_divide():
    with pytest.raises(ValueError, match="num_heads"):
        SelfAttention(10, 4)


def test_modulate_is_affine_per_sample():
    x, shift, scale = torch.randn(2, 3, 4), torch.randn(2, 4), torch.randn(2, 4)
    expected = x * (1 + scale).unsqueeze(1) + shift.unsqueeze(1)
    torch.testing.assert_close(modulate(x, shift, scale), expected)


def test_modulation_starts_at_zero():
    parts = Modulation(8, 6)(torch.randn(3, 8))
    assert len(parts) == 6 and all(p.shape == (3, 8) and not p.any() for p in parts)


def test_swiglu_formula():
    layer, x = SwiGLU(6, 10), torch.randn(2, 6)
    w1, w2 = layer.w12.weight.chunk(2)
    b1, b2 = layer.w12.bias.chunk(2)
    gate, value = x @ w1.T + b1, x @ w2.T + b2
    expected = layer.w3(gate * torch.sigmoid(gate) * value)
    torch.testing.assert_close(layer(x), expected)


def test_xavier_init_reaches_every_linear():
    layer = nn.Sequential(Mlp(16, 64), Mlp(16, 64))
    init_linears_xavier(layer)
    bound = (6 / (16 + 64)) ** 0.5
    for linear in (m for m in layer.modules() if isinstance(m, nn.Linear)):
        assert not linear.bias.any() and 0.9 * bound < linear.weight.abs().max() <= bound
