"""Relative attention: four terms computed slowly, distances only, caches that change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.nn.attention import split_heads
from gentok.nn.position import sincos_1d
from gentok.signals.mogo.relative_attention import (
    RelativeAttention,
    RelativeBlock,
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


def test_block_normalises_after_the_residual():
    torch.manual_seed(0)
    block = RelativeBlock(D, H, 4, 0.0).eval()
    x, (u, v) = torch.randn(2, 5, D), biases()
    middle = block.norm1(x + block.attention(x, u, v))
    torch.testing.assert_close(block(x, u, v), block.norm2(middle + block.mlp(middle)))
    assert block(100 * x, u, v).std(-1).mean().item() == pytest.approx(1, abs=0.05)


def test_heads_must_divide():
    with pytest.raises(ValueError, match="num_heads must divide dim"):
        RelativeAttention(10, 4)
