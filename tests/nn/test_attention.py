"""Attention and feed-forward layers against torch, transformers and the written-out formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTAttention

from gentok.nn.attention import CrossAttention, SelfAttention
from gentok.nn.norm import RMSNorm
from gentok.nn.position import AxialRope2d
from gentok.nn.rope import Rope, grid_positions
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


# --- heads, norms, layouts ------------------------------------------------------------------------


def random_weights(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_shared_keys_are_full_attention_with_repeated_rows(kv_heads):
    shared = random_weights(SelfAttention(24, 4, kv_heads=kv_heads))
    full = SelfAttention(24, 4)
    times = 4 // kv_heads
    for kind in ("weight", "bias"):
        q, k, v = getattr(shared.qkv, kind).split([24, 6 * kv_heads, 6 * kv_heads])
        k, v = (t.unflatten(0, (kv_heads, 6)).repeat_interleave(times, 0) for t in (k, v))
        getattr(full.qkv, kind).data = torch.cat([q, k.flatten(0, 1), v.flatten(0, 1)]).detach()
    full.proj = shared.proj
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(shared(x), full(x), rtol=1e-4, atol=1e-5)


def test_norms_of_each_head_equal_qwen3():
    """Grouped queries and a norm a head, as Qwen3 has them, without its rotations."""
    from transformers import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

    config = Qwen3Config(
        hidden_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        attn_implementation="eager",
    )  # fmt: skip
    peer = Qwen3Attention(config, 0).eval()
    ours = SelfAttention(
        24, 4, False, proj_bias=False, head_dim=8, kv_heads=2, qk_norm=RMSNorm
    )  # inner width 32
    random_weights(ours)
    projections = (peer.q_proj, peer.k_proj, peer.v_proj)
    for theirs, part in zip(projections, ours.qkv.weight.split([32, 16, 16]), strict=True):
        theirs.weight.data = part.detach()
    peer.o_proj.weight.data = ours.proj.weight.data
    peer.q_norm.weight.data = ours.q_norm.weight.data
    peer.k_norm.weight.data = ours.k_norm.weight.data
    peer.q_norm.variance_epsilon = peer.k_norm.variance_epsilon = 1e-6
    x = torch.randn(2, 5, 24)
    still = (torch.ones(1, 5, 8), torch.zeros(1, 5, 8))  # cosines and sines of no rotation
    theirs = peer(x, position_embeddings=still, attention_mask=None)[0]
    torch.testing.assert_close(ours(x), theirs, rtol=1e-4, atol=1e-5)


def test_norm_over_the_full_width():
    layer = random_weights(SelfAttention(24, 4, kv_heads=2, qk_norm=RMSNorm, qk_full=True))
    assert layer.q_norm.weight.shape == (24,) and layer.k_norm.weight.shape == (12,)
    x = torch.randn(2, 5, 24)
    q, k, v = layer.qkv(x).split([24, 12, 12], dim=-1)
    q = F.rms_norm(q, (24,), layer.q_norm.weight, 1e-6).unflatten(-1, (4, 6)).transpose(1, 2)
    k = F.rms_norm(k, (12,), layer.k_norm.weight, 1e-6).unflatten(-1, (2, 6)).transpose(1, 2)
    v = v.unflatten(-1, (2, 6)).transpose(1, 2)
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    mixed = (q @ k.mT / 6**0.5).softmax(-1) @ v
    expected = layer.proj(mixed.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_layout_by_heads_is_a_permutation_of_rows():
    by_head = random_weights(SelfAttention(24, 4, per_head=True))
    plain = SelfAttention(24, 4)
    for kind in ("weight", "bias"):
        rows = getattr(by_head.qkv, kind).unflatten(0, (4, 3, 6)).transpose(0, 1).flatten(0, 2)
        getattr(plain.qkv, kind).data = rows.detach()
    plain.proj = by_head.proj
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(by_head(x), plain(x), rtol=1e-4, atol=1e-5)


def test_positions_reach_a_rope_without_a_table():
    rope, table = Rope((4, 4)), AxialRope2d(2, 3, 8)
    a, b = SelfAttention(16, 2, rope=rope), SelfAttention(16, 2, rope=table)
    b.load_state_dict(a.state_dict())
    x = torch.randn(1, 6, 16)
    torch.testing.assert_close(a(x, positions=grid_positions(2, 3)), b(x), rtol=1e-4, atol=1e-5)


# --- masks of keys and cross-attention ------------------------------------------------------------


def test_hidden_keys_are_as_good_as_absent():
    layer, x = random_weights(SelfAttention(24, 4)), torch.randn(2, 6, 24)
    seen = torch.tensor([True, True, False, True, False, True])
    expected = layer(x[:, seen])  # the tokens left, on their own
    result = layer(x, key_mask=seen.expand(2, -1))[:, seen]
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    both = layer(x, torch.ones(6, 6, dtype=torch.bool).tril(), seen.expand(2, -1))
    causal = layer(x[:, seen], torch.ones(4, 4, dtype=torch.bool).tril())
    torch.testing.assert_close(both[:, seen], causal, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per_head", [False, True])
def test_cross_attention_equals_torch(per_head):
    ours = random_weights(CrossAttention(24, 4, context_dim=10, per_head=per_head))
    theirs = nn.MultiheadAttention(24, 4, kdim=10, vdim=10, batch_first=True)
    pairs = ours.key_value.weight, ours.key_value.bias
    if per_head:  # [k v] of the first head, then of the second
        pairs = [t.unflatten(0, (4, 2, 6)).transpose(0, 1).flatten(0, 2) for t in pairs]
    (k, v), (k_bias, v_bias) = (t.chunk(2) for t in pairs)
    theirs.q_proj_weight.data, theirs.k_proj_weight.data = ours.query.weight.data, k.detach()
    theirs.v_proj_weight.data = v.detach()
    theirs.in_proj_bias.data = torch.cat([ours.query.bias, k_bias, v_bias]).detach()
    theirs.out_proj.load_state_dict(ours.proj.state_dict())
    x, context = torch.randn(2, 5, 24), torch.randn(2, 7, 10)
    seen = torch.rand(2, 7) > 0.4
    seen[:, 0] = True
    expected = theirs(x, context, context, key_padding_mask=~seen)[0]
    torch.testing.assert_close(ours(x, context, seen), expected, rtol=1e-4, atol=1e-5)


def test_cross_attention_norms_and_inner_width():
    """FIT's inner width below D, and norms of queries and keys; written out."""
    layer = random_weights(
        CrossAttention(24, 2, 10, bias=False, head_dim=4, kv_heads=1, qk_norm=RMSNorm)
    )
    assert layer.query.weight.shape == (8, 24) and layer.key_value.weight.shape == (8, 10)
    x, context = torch.randn(2, 5, 24), torch.randn(2, 7, 10)
    q = layer.query(x).view(2, 5, 2, 4).transpose(1, 2)
    k, v = layer.key_value(context)[:, None].chunk(2, dim=-1)  # one head for both
    q = F.rms_norm(q, (4,), layer.q_norm.weight, 1e-6)
    k = F.rms_norm(k, (4,), layer.k_norm.weight, 1e-6)
    mixed = (q @ k.mT / 2).softmax(-1) @ v
    expected = layer.proj(mixed.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(layer(x, context), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [SelfAttention, CrossAttention])
def test_bad_heads(kind):
    with pytest.raises(ValueError, match="num_heads must divide dim, got num_heads=4, dim=10"):
        kind(10, 4)
    with pytest.raises(ValueError, match="kv_heads must divide num_heads, got kv_heads=3"):
        kind(24, 4, kv_heads=3)
    with pytest.raises(ValueError, match="per_head needs as many heads"):
        kind(24, 4, kv_heads=2, per_head=True)
