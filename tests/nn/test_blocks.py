"""Blocks against their formulas, bit for bit, and against torch, transformers and diffusers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gentok.nn.attention import SelfAttention
from gentok.nn.blocks import AdaLNBlock, PostNormBlock, PreNormBlock, vit_blocks
from gentok.nn.norm import RMSNorm
from gentok.nn.transformer import Mlp, SwiGLU


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """All parameters random, so that zero gates and unit scales hide nothing."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def parts(dim: int = 16, heads: int = 2) -> tuple[nn.Module, nn.Module]:
    return SelfAttention(dim, heads), Mlp(dim, 2 * dim, approximate="none")


def same(block: nn.Module, written_out, *inputs: torch.Tensor) -> None:
    """Outputs and gradients of block and formula are equal, bit for bit."""
    inputs = tuple(x.requires_grad_() for x in inputs)
    learned = (*inputs, *block.parameters())
    ours, theirs = block(*inputs), written_out(*inputs)
    assert torch.equal(ours, theirs)
    g = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, learned, g), torch.autograd.grad(theirs, learned, g), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("eps", [1e-5, 1e-6, 1e-12])
def test_pre_norm(eps):
    block = stirred(PreNormBlock(16, *parts(), eps=eps))
    norm1, norm2 = block.norm1, block.norm2

    def written_out(x):
        h = F.layer_norm(x, (16,), norm1.weight, norm1.bias, eps)
        x = x + block.attention(h)
        return x + block.mlp(F.layer_norm(x, (16,), norm2.weight, norm2.bias, eps))

    same(block, written_out, torch.randn(3, 5, 16))


def test_post_norm_equals_torchs_encoder_layer():
    block = stirred(PostNormBlock(16, *parts()))
    peer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, F.gelu, batch_first=True)
    peer.self_attn.in_proj_weight.data.copy_(block.attention.qkv.weight)
    peer.self_attn.in_proj_bias.data.copy_(block.attention.qkv.bias)
    peer.self_attn.out_proj.load_state_dict(block.attention.proj.state_dict())
    pairs = (peer.linear1, block.mlp.fc1), (peer.linear2, block.mlp.fc2)
    for theirs, ours in (*pairs, (peer.norm1, block.norm1), (peer.norm2, block.norm2)):
        theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(block(x), peer(x), rtol=1e-5, atol=1e-5)


def test_layer_scale_equals_dinov2():
    from transformers import Dinov2Config
    from transformers.models.dinov2.modeling_dinov2 import Dinov2Layer

    block = stirred(PreNormBlock(16, *parts(), layer_scale=0.1))
    config = Dinov2Config(hidden_size=16, num_attention_heads=2, mlp_ratio=2, hidden_act="gelu")
    config._attn_implementation = "eager"
    peer = Dinov2Layer(config).eval()
    named = dict(peer.named_parameters())

    def put(words, value):
        (name,) = [n for n in named if all(word in n for word in words)]
        named[name].data.copy_(value)

    attention, mlp = block.attention, block.mlp
    for kind in ("weight", "bias"):
        thirds = getattr(attention.qkv, kind).chunk(3)
        for word, value in zip(_qkv_names(named), thirds, strict=True):
            put((word, kind), value)
        put((_out_name(named), kind), getattr(attention.proj, kind))
        for word in ("norm1", "norm2"):
            put((word, kind), getattr(getattr(block, word), kind))
        for word in ("fc1", "fc2"):
            put((word, kind), getattr(getattr(mlp, word), kind))
    put(("layer_scale1",), block.scale1.gamma)
    put(("layer_scale2",), block.scale2.gamma)
    x = torch.randn(3, 5, 16)
    result = peer(x)
    result = result[0] if isinstance(result, tuple) else result
    torch.testing.assert_close(block(x), result, rtol=1e-4, atol=1e-5)


def _qkv_names(named):
    for names in (("q_proj", "k_proj", "v_proj"), ("query", "key", "value")):
        if any(names[0] in n for n in named):
            return names
    raise AssertionError(f"no query projection among {list(named)}")


def _out_name(named):
    return "o_proj" if any("o_proj" in n for n in named) else "attention.output"


def test_layer_scale_starts_where_told():
    block = PreNormBlock(16, *parts(), layer_scale=0.1)
    assert block.scale1.gamma.tolist() == pytest.approx([0.1] * 16)
    assert [n for n, _ in PreNormBlock(16, *parts()).named_parameters() if "scale" in n] == []


def test_dropped_branches_leave_the_item_as_it_was():
    torch.manual_seed(0)
    block = PreNormBlock(16, *parts(), drop_path=0.5).train()
    x = torch.randn(400, 3, 16)
    untouched = (block(x) == x).flatten(1).all(1).float().mean()
    assert abs(float(untouched) - 0.25) < 0.07, "both branches dropped in a quarter of the items"


def test_arguments_reach_the_attention():
    block, mask = stirred(PreNormBlock(16, *parts())), torch.ones(5, 5, dtype=torch.bool).tril()
    x = torch.randn(2, 5, 16)
    changed = x.clone()
    changed[:, 3:] += 1
    assert torch.equal(block(x, mask)[:, :3], block(changed, mask)[:, :3])


@pytest.mark.parametrize("tokens", [False, True])
def test_adaln_zero(tokens):
    block = stirred(AdaLNBlock(16, *parts()))

    def written_out(x, c):
        six = block.modulation.linear(F.silu(c)).chunk(6, dim=-1)
        s1, g1, a1, s2, g2, a2 = six if tokens else [v[:, None] for v in six]
        h = torch.addcmul(s1, F.layer_norm(x, (16,), eps=1e-6), 1 + g1)
        x = x + a1 * block.attention(h)
        h = torch.addcmul(s2, F.layer_norm(x, (16,), eps=1e-6), 1 + g2)
        return x + a2 * block.mlp(h)

    c = torch.randn(3, 5, 16) if tokens else torch.randn(3, 16)
    same(block, written_out, torch.randn(3, 5, 16), c)


def test_adaln_zero_starts_as_identity_and_takes_another_norm():
    block = AdaLNBlock(16, SelfAttention(16, 2), SwiGLU(16, 24), norm=RMSNorm)
    x = torch.randn(2, 5, 16)
    assert torch.equal(block(x, torch.randn(2, 16)), x)
    assert isinstance(block.norm1, RMSNorm) and isinstance(block.norm2, RMSNorm)
    assert block.norm1.eps == 1e-6


def test_adaln_zero_equals_diffusers():
    from diffusers.models.attention import BasicTransformerBlock

    torch.manual_seed(0)
    peer = BasicTransformerBlock(
        16, 2, 8, attention_bias=True, norm_type="ada_norm_zero", num_embeds_ada_norm=3,
        norm_elementwise_affine=False, norm_eps=1e-6, activation_fn="gelu-approximate",
    ).eval()  # fmt: skip
    block = AdaLNBlock(16, SelfAttention(16, 2), Mlp(16, 64))
    block.mlp.fc1, block.mlp.fc2 = peer.ff.net[0].proj, peer.ff.net[2]
    block.modulation.linear = peer.norm1.linear
    q, k, v = peer.attn1.to_q, peer.attn1.to_k, peer.attn1.to_v
    block.attention.qkv.weight.data = torch.cat([q.weight, k.weight, v.weight]).detach()
    block.attention.qkv.bias.data = torch.cat([q.bias, k.bias, v.bias]).detach()
    block.attention.proj = peer.attn1.to_out[0]
    x, t, label = torch.randn(2, 9, 16), torch.tensor([3, 700]), torch.tensor([0, 2])
    with torch.no_grad():
        c = peer.norm1.emb(t, label)
        theirs = peer(x, timestep=t, class_labels=label)
        torch.testing.assert_close(block(x, c), theirs, rtol=1e-5, atol=1e-5)


def test_vit_blocks_hand_their_arguments_on():
    blocks = vit_blocks(16, 3, 2, 40, eps=1e-12, drop_path=0.2, qkv_bias=False, layer_scale=0.5)
    assert [block.drop_path.rate for block in blocks] == pytest.approx([0, 0.1, 0.2])
    for block in blocks:
        assert block.norm1.eps == block.norm2.eps == 1e-12
        assert block.attention.qkv.bias is None and block.attention.num_heads == 2
        assert block.mlp.fc1.out_features == 40 and block.scale1 is not None
