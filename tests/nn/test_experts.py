"""Mixtures of experts against brute force, and tokens taken out and put back."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gentok.nn.experts import ExpertChoice, TokenChoice
from gentok.nn.token_masks import kept_mask, num_kept, put_tokens, random_keep, take_tokens


def made(kind=ExpertChoice, dim=6, hidden=10, num_experts=4, capacity=2.0):
    torch.manual_seed(0)
    layer = kind(dim, hidden, num_experts, capacity)
    for p in layer.parameters():
        nn.init.normal_(p, std=0.5)
    return layer


def expert_of(layer, e, row):
    w1, w2 = layer.experts.w1[e], layer.experts.w2[e]
    return F.gelu(row @ w1) @ w2


def test_expert_choice_is_brute_force():
    """Expert by expert: rank all tokens of the sample, run the best ones, add what comes out."""
    layer, x = made(), torch.randn(3, 10, 6)
    wanted = torch.zeros_like(x)
    for b in range(3):
        scores = torch.stack([F.softmax(layer.gate.weight @ row, 0) for row in x[b]])  # (10, 4)
        for e in range(4):
            best = sorted(range(10), key=lambda n: -scores[n, e].item())[: int(2.0 * 10 / 4)]
            for n in best:
                wanted[b, n] += scores[n, e] * expert_of(layer, e, x[b, n])
    torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)


def test_expert_choice_is_the_products_with_one_hot_matrices():
    """The public code's dispatch: the same numbers by dense matrices of zeros and ones."""
    layer, x = made(capacity=1.5), torch.randn(2, 9, 6)
    probs = (x @ layer.gate.weight.T).softmax(-1)
    weight, index = probs.transpose(1, 2).topk(int(1.5 * 9 / 4), dim=-1)
    send = F.one_hot(index, 9).float()  # (B, E, k, N)
    rows = torch.einsum("bekn,bnd->bekd", send, x)
    rows = torch.einsum("bekd,edf->bekf", rows, layer.experts.w1)
    rows = torch.einsum("bekf,efd->bekd", F.gelu(rows), layer.experts.w2)
    wanted = torch.einsum("bekn,bekd->bnd", send, weight[..., None] * rows)
    torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)


def test_token_choice_is_brute_force():
    layer, x = made(TokenChoice), torch.randn(2, 7, 6)
    wanted = torch.zeros_like(x)
    for b in range(2):
        for n in range(7):
            scores = F.softmax(layer.gate.weight @ x[b, n], 0)
            for e in scores.argsort(descending=True)[:2].tolist():
                wanted[b, n] += scores[e] * expert_of(layer, e, x[b, n])
    torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)


@given(st.integers(2, 40), st.sampled_from([1, 2, 4, 8]), st.sampled_from([0.5, 1.0, 1.25, 2.0]))
def test_every_expert_takes_the_same_number(tokens, experts, capacity):
    capacity = min(capacity, float(experts))
    layer = ExpertChoice(4, 4, experts, capacity)
    count = int(capacity * tokens / experts)
    if count == 0:
        with pytest.raises(ValueError, match="leave none for each"):
            layer(torch.randn(1, tokens, 4))
        return
    x = torch.randn(2, tokens, 4)
    index = layer.choose(x)[1]
    assert index.shape == (2, experts, count) and (layer.loads(x) == count).all()
    assert all(len(set(row.tolist())) == count for row in index.flatten(0, 1))


def test_token_choice_may_crowd_one_expert():
    layer = made(TokenChoice, capacity=1)
    x = torch.rand(2, 5, 6) + 0.1
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.weight[2] = 1
    assert layer.loads(x).tolist() == [[0, 0, 5, 0]] * 2
    assert made(TokenChoice).loads(torch.randn(3, 7, 6)).sum(1).tolist() == [14] * 3


def test_a_sample_does_not_compete_with_its_batch():
    layer, x = made(), torch.randn(3, 8, 6)
    torch.testing.assert_close(layer(x)[1], layer(x[1:2])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [ExpertChoice, TokenChoice])
def test_gradients_reach_router_and_experts(kind):
    layer = made(kind)
    layer(torch.randn(2, 12, 6)).square().sum().backward()
    for name, p in layer.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_bad_mixtures():
    with pytest.raises(ValueError, match="capacity <= num_experts, got 4 and 5"):
        ExpertChoice(4, 4, 4, 5)
    with pytest.raises(ValueError, match="num_experts >= 1"):
        ExpertChoice(4, 4, 0, 1)
    with pytest.raises(ValueError, match="whole number"):
        TokenChoice(4, 4, 4, 1.5)


# --- token masks ----------------------------------------------------------------------------------


@given(st.integers(1, 300), st.floats(0, 0.99))
def test_as_many_are_kept_as_the_ratio_says(tokens, ratio):
    if tokens * (1 - ratio) < 0.999:
        with pytest.raises(ValueError, match="leaves none"):
            num_kept(tokens, ratio)
        return
    count = num_kept(tokens, ratio)
    assert count <= tokens * (1 - ratio) + 1e-6 < count + 1.001


def test_published_ratios_and_a_float_that_falls_short():
    assert [num_kept(256, r) for r in (0, 0.5, 0.75, 0.875)] == [256, 128, 64, 32]
    assert num_kept(10, 0.8) == 2  # 10 (1 - 0.8) is 1.9999999999999996
    for ratio in (-0.1, 1.0):
        with pytest.raises(ValueError, match="ratio must lie"):
            num_kept(10, ratio)


def test_kept_tokens_come_back_to_their_places():
    torch.manual_seed(0)
    x, keep = torch.randn(5, 12, 3), random_keep(5, 12, 0.75)
    assert keep.shape == (5, 3) and all(len(set(row.tolist())) == 3 for row in keep)
    assert len({tuple(sorted(row.tolist())) for row in keep}) > 1  # each sample has its own
    taken = take_tokens(x, keep)
    for b in range(5):
        assert torch.equal(taken[b], x[b][keep[b]])
    back, mask = put_tokens(taken, keep, 12), kept_mask(keep, 12)
    assert torch.equal(back[mask], x[mask]) and back[~mask].abs().max() == 0
    assert mask.sum(1).tolist() == [3] * 5
