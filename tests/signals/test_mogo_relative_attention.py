"""Relative attention: four terms computed slowly, distances only, caches that change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.nn.attention import split_heads
from gentok.nn.blocks import PostNormBlock
from gentok.nn.position import sincos_1d
from gentok.signals.mogo.relative_attention import (
    RelativeAttention,
    RelativeCache,
    RelativeTransformer,
    relative_shift,
)

D, H = 16, 4


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return RelativeAttention(D, H).eval()


def biases():
    torch.manual_seed(1)
    return torch.randn(H, D // H), torch.randn(H, D // H)


def slow(layer, x, u, v):
    """Pair by pair, straight from the formula."""
    q, k, value = (split_heads(part, H) for part in layer.qkv(x).chunk(3, -1))
    batch, _, n, d = q.shape
    out = torch.zeros(batch, H, n, d)
    for head in range(H):
        rows = slice(head * d, (head + 1) * d)
        for a in range(n):
            scores = []
            for b in range(a + 1):
                r = layer.relative.weight[rows] @ sincos_1d(torch.tensor(a - b), D)
                content = ((q[:, head, a] + u[head]) * k[:, head, b]).sum(-1)
                distance = (q[:, head, a] + v[head]) @ r
                scores.append((content + distance) / d**0.5)
            weights = torch.stack(scores, -1).softmax(-1)  # (B, a + 1)
            out[:, head, a] = (weights[..., None] * value[:, head, : a + 1]).sum(1)
    return layer.proj(out.transpose(1, 2).flatten(-2))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_equals_the_formula_pair_by_pair(layer, n):
    x = torch.randn(3, n, D)
    torch.testing.assert_close(layer(x, *biases()), slow(layer, x, *biases()), rtol=1e-4, atol=1e-5)


@given(st.integers(1, 9), st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_shift_puts_each_distance_under_its_key(new, old):
    total = new + old
    distances = torch.arange(total - 1, -1, -1.0).expand(new, total)  # column j: distance M - 1 - j
    shifted = relative_shift(distances)
    for row in range(new):
        for key in range(old + row + 1):
            assert shifted[row, key] == old + row - key


@given(st.integers(0, 20))
@settings(max_examples=10, deadline=None)
def test_distance_scores_depend_on_the_difference_only(start):
    """With content left out, row a and row a + s hold the same numbers at the same distances."""
    torch.manual_seed(0)
    layer = RelativeAttention(D, H).eval()
    same = torch.randn(1, H, 1, D // H)
    scores = layer.distance_scores(same.expand(1, H, 24, D // H), 24)
    for distance in range(24 - start):
        torch.testing.assert_close(scores[..., start + distance, start], scores[..., distance, 0])
    assert scores[0, 0, 5].isfinite().sum() == 6, "a query saw the future"


def test_moving_a_clip_does_not_change_it(layer):
    """What stands before a token but cannot be told from padding leaves distances alone."""
    x = torch.randn(1, 6, D)
    scores = layer.distance_scores(split_heads(x, H), 6)
    later = layer.distance_scores(split_heads(torch.cat([torch.randn(1, 5, D), x], 1), H), 11)
    torch.testing.assert_close(later[..., 5:, 5:], scores)


def test_no_token_sees_a_later_one(layer):
    x = torch.randn(2, 8, D)
    before = layer(x, *biases())
    x[:, 5] += 1.0
    after = layer(x, *biases())
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5], before[:, 5])


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("pieces", [[1] * 9, [4, 1, 3, 1], [9]])
def test_cached_output_equals_recomputation(relative, pieces):
    torch.manual_seed(0)
    stack = RelativeTransformer(D, 2, H, relative=relative).eval()
    x, caches = torch.randn(2, 9, D), stack.start()
    parts = [stack(part, caches) for part in x.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), stack(x), rtol=1e-4, atol=1e-5)
    assert len(caches[0]) == 9


def test_cache_projects_each_distance_a_few_times_only(layer):
    calls = []
    cache = RelativeCache()
    cache.append(torch.zeros(1, H, 1, 4), torch.zeros(1, H, 1, 4))
    for count in range(1, 200):
        table = cache.distances(count, lambda far: calls.append(len(far)) or layer.project(far))
        assert table.shape == (H, count, D // H)
    assert len(calls) < 9 and sum(calls) < 800
    wanted = layer.project(torch.arange(198, -1, -1))
    torch.testing.assert_close(table, wanted)


def test_blocks_are_the_shared_post_norm_ones():
    torch.manual_seed(0)
    stack = RelativeTransformer(D, 1, H).eval()
    block, x = stack.blocks[0], torch.randn(2, 5, D)
    assert type(block) is PostNormBlock
    middle = block.norm1(x + block.attention(x, stack.u, stack.v))
    torch.testing.assert_close(stack(x), block.norm2(middle + block.mlp(middle)))
    assert stack(100 * x).std(-1).mean().item() == pytest.approx(1, abs=0.05)


def test_without_distances_a_block_is_pytorchs_own_with_the_same_weights():
    torch.manual_seed(0)
    stack = RelativeTransformer(D, 1, H, relative=False).eval()
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ours = stack.blocks[0]
    peer = torch.nn.TransformerEncoderLayer(D, H, 4 * D, 0.0, "gelu", batch_first=True).eval()
    pairs = {
        "self_attn.in_proj_weight": ours.attention.qkv.weight,
        "self_attn.out_proj.weight": ours.attention.proj.weight,
        "self_attn.in_proj_bias": torch.zeros(3 * D),
        "self_attn.out_proj.bias": torch.zeros(D),
    }
    renamed = {"linear1": ours.mlp[0], "linear2": ours.mlp[3], "norm1": ours.norm1}
    for name, layer in (renamed | {"norm2": ours.norm2}).items():
        pairs |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    peer.load_state_dict(pairs)
    x = torch.randn(2, 7, D)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(7)
    torch.testing.assert_close(stack(x), peer(x, src_mask=mask), rtol=1e-4, atol=1e-5)


def test_the_scores_are_those_of_xlnet():
    """Transformers keeps Transformer-XL's attention in XLNet; with its weights the sums agree."""
    from transformers import XLNetConfig
    from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

    torch.manual_seed(0)
    config = XLNetConfig(d_model=D, n_head=H, d_inner=D, dropout=0.0)
    peer, n = XLNetRelativeAttention(config).eval(), 7
    for parameter in peer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    layer = RelativeAttention(D, H).eval()
    with torch.no_grad():
        parts = [getattr(peer, name).reshape(D, D).T for name in "qkv"]
        layer.qkv.weight.copy_(torch.cat(parts))
        layer.relative.weight.copy_(peer.r.reshape(D, D).T)
        layer.proj.weight.copy_(peer.o.reshape(D, D))
    q, k, v = (split_heads(x, H) for x in layer.qkv(torch.randn(2, n, D)).chunk(3, -1))
    content = (q + peer.r_w_bias[:, None]) @ k.mT * q.shape[-1] ** -0.5
    scores = content + layer.distance_scores(q + peer.r_r_bias[:, None], n)
    ours = scores.softmax(-1) @ v
    far = sincos_1d(torch.arange(n, -n, -1), D)  # XLNet starts at distance n
    r = torch.einsum("jh,hnd->jnd", far, peer.r)[:, None].expand(-1, 2, -1, -1)
    future = torch.ones(n, n).triu(1)[:, :, None, None]
    first = [t.permute(2, 0, 1, 3) for t in (q, k, v)]  # (N, B, h, d), as XLNet has them
    theirs = peer.rel_attn_core(*first, r, attn_mask=future)
    torch.testing.assert_close(ours, theirs.permute(1, 2, 0, 3), rtol=1e-4, atol=1e-4)


def test_heads_must_divide():
    with pytest.raises(ValueError, match="num_heads must divide dim"):
        RelativeAttention(10, 4)
