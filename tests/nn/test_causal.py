import pytest
import torch
import torch.nn.functional as F

from gentok.nn.causal import CausalSelfAttention, KVCache, causal_attention
from gentok.nn.rope import Rope


@pytest.fixture(params=[None, Rope((8,))], ids=["plain", "rope"])
def layer(request):
    torch.manual_seed(0)
    return CausalSelfAttention(16, 2, rope=request.param).eval()


def test_equals_torchs_own_layer():
    torch.manual_seed(0)
    ours, peer = CausalSelfAttention(16, 2), torch.nn.MultiheadAttention(16, 2, batch_first=True)
    peer.in_proj_weight.data, peer.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    peer.out_proj.load_state_dict(ours.proj.state_dict())
    x, hidden = torch.randn(3, 5, 16), torch.ones(5, 5, dtype=torch.bool).triu(1)
    assert torch.allclose(ours(x), peer(x, x, x, attn_mask=hidden)[0], atol=1e-5)


def test_no_token_reads_a_later_one(layer):
    x = torch.randn(1, 6, 16, requires_grad=True)
    for place in range(6):
        (gradient,) = torch.autograd.grad(layer(x)[0, place].sum(), x)
        assert gradient[0, : place + 1].abs().sum(-1).gt(0).all()
        assert gradient[0, place + 1 :].abs().sum() == 0


@pytest.mark.parametrize("cuts", [[1] * 7, [3, 1, 3], [7], [2, 5]])
def test_cached_pieces_equal_one_pass(layer, cuts):
    x, cache = torch.randn(2, 7, 16), KVCache()
    pieces = [layer(piece, cache) for piece in x.split(cuts, dim=1)]
    assert torch.allclose(torch.cat(pieces, dim=1), layer(x), atol=1e-5)
    assert len(cache) == 7


def test_forgotten_drafts_leave_no_trace(layer):
    x, cache = torch.randn(1, 6, 16), KVCache()
    layer(x[:, :4], cache)
    layer(torch.randn(1, 2, 16), cache)
    cache.truncate(4)
    assert torch.allclose(layer(x[:, 4:], cache), layer(x)[:, 4:], atol=1e-5)
    with pytest.raises(ValueError, match=r"length must lie in \[0, 6\], got 7"):
        cache.truncate(7)


def test_scale_is_that_of_the_kernel():
    q, k, v = torch.randn(3, 1, 2, 4, 8)
    explicit = (q @ k.transpose(-1, -2) * 0.3).masked_fill(
        torch.ones(4, 4, dtype=torch.bool).triu(1), -torch.inf
    )
    assert torch.allclose(
        causal_attention(q, k, v, scale=0.3), F.softmax(explicit, -1) @ v, atol=1e-6
    )


def test_heads_must_divide():
    with pytest.raises(ValueError, match="num_heads=3, dim=16"):
        CausalSelfAttention(16, 3)
