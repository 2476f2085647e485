"""Token generators: vocabulary per place, sampling against uncached logits, scales."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentok.nn.gpt import Gpt, GptConfig
from gentok.nn.next_scale import NextScaleGpt
from gentok.nn.place_head import PlaceHead, draw_token


def model(seed: int = 0, **changes) -> Gpt:
    sizes = {"vocabulary": 11, "length": 8, "dim": 16, "num_layers": 2, "num_heads": 2}
    torch.manual_seed(seed)
    gpt = Gpt(GptConfig(**{**sizes, **changes})).eval()
    for parameter in gpt.parameters():
        nn.init.normal_(parameter, std=0.3)
    return gpt


def greedy(logits):
    return logits.argmax(-1)


SEGMENTS = ((3, 0, 4), (2, 4, 11), (1, 2, 3))  # six token places after a prefix of two


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_sampling_with_the_cache_follows_the_uncached_logits(causal, positions, segments):
    gpt = model(prefix=2, prefix_causal=causal, positions=positions, segments=segments)
    prefix, keys = torch.randn(3, 2, 16), torch.tensor([[True, True], [False, True], [True, False]])
    tokens = torch.zeros(3, 0, dtype=torch.int64)
    for _ in range(6):
        tokens = torch.cat([tokens, gpt(tokens, prefix, keys)[:, -1:].argmax(-1)], 1)
    assert torch.equal(gpt.sample(3, prefix, keys=keys, draw=greedy), tokens)
    assert torch.equal(gpt.sample(3, prefix, tokens[:, :4], 5, keys, draw=greedy), tokens[:, :5])


def test_every_logit_seen_in_sampling_is_the_uncached_one():
    gpt, prefix, seen = model(prefix=2), torch.randn(3, 2, 16), []
    tokens = gpt.sample(3, prefix, draw=lambda logits: seen.append(logits) or draw_token(logits))
    assert torch.allclose(torch.stack(seen, 1), gpt(tokens[:, :-1], prefix), atol=1e-5)


@pytest.mark.parametrize("prefix", [0, 2])
def test_a_changed_token_changes_no_earlier_logit(prefix):
    gpt = model(prefix=prefix, prefix_causal=False)
    condition = torch.randn(1, 2, 16) if prefix else None
    tokens = torch.randint(11, (1, 8 - prefix))
    base = gpt(tokens, condition)
    for place in range(8 - prefix):
        other = tokens.clone()
        other[0, place] = (other[0, place] + 1) % 11
        changed = (gpt(other, condition) != base).any(-1)[0]
        first = place + 1 if prefix else place
        assert not changed[:first].any() and changed[first:].all()


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_no_place_leaves_its_vocabulary(data):
    counts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    vocabulary, segments = 9, []
    for count in counts:
        low = data.draw(st.integers(0, vocabulary - 1))
        segments.append((count, low, data.draw(st.integers(low + 1, vocabulary))))
    total = sum(counts)
    gpt = model(vocabulary=vocabulary, prefix=1, length=total + 1, segments=tuple(segments))
    prefix = torch.randn(4, 1, 16)
    tokens = gpt.sample(4, prefix)
    logits, nats = gpt(tokens[:, :-1], prefix), gpt.nats(tokens, prefix)
    place = 0
    for count, low, high in segments:
        for _ in range(count):
            assert ((tokens[:, place] >= low) & (tokens[:, place] < high)).all()
            row = logits[:, place]
            assert row[:, low:high].isfinite().all()
            assert (torch.cat([row[:, :low], row[:, high:]], 1) == -torch.inf).all()
            exact = -row.double().log_softmax(-1).gather(1, tokens[:, place, None])[:, 0]
            assert torch.allclose(nats[:, place].double(), exact, atol=1e-5)
            place += 1


def test_outside_a_range_nothing_is_learned():
    gpt = model(prefix=2, segments=((6, 3, 7),))
    batch = {"tokens": torch.randint(3, 7, (4, 6)), "prefix": torch.randn(4, 2, 16)}
    gpt.loss(batch)[0].backward()
    moved = gpt.head.linear.weight.grad.abs().sum(-1) > 0
    assert moved.tolist() == [3 <= token < 7 for token in range(11)]


def test_weight_zero_takes_a_token_out_of_the_loss():
    gpt, tokens = model(), torch.randint(11, (2, 8))
    weight = torch.rand(2, 8)
    weight[0, 3:5] = 0
    loss, parts = gpt.loss({"tokens": tokens, "weight": weight})
    by_hand = torch.nn.functional.cross_entropy(
        gpt(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
    ).view(2, 7)
    assert torch.allclose(loss, (by_hand * weight[:, 1:]).sum() / weight[:, 1:].sum())
    assert torch.equal(parts["cross_entropy"], loss.detach())


def test_streams_stop_at_the_end_token():
    gpt, script = model(), iter([[1, 5, 2], [5, 3, 2], [4, 4, 5], [1, 1, 1]])
    start = torch.zeros(3, 1, dtype=torch.int64)
    out = gpt.sample(3, given=start, end=5, draw=lambda logits: torch.tensor(next(script)))
    assert out.tolist() == [[0, 1] + [5] * 6, [0] + [5] * 7, [0, 2, 2] + [5] * 5]
    assert next(script) == [1, 1, 1], "sampling went on after all streams had ended"


def test_draws_have_the_softmax_distribution():
    torch.manual_seed(0)
    logits = torch.tensor([1.0, -torch.inf, 0.0, 2.0, -torch.inf])
    drawn = draw_token(logits.expand(40_000, -1))
    share = torch.bincount(drawn, minlength=5) / 40_000
    assert share[1] == share[4] == 0
    # Four standard errors of a share of 40,000 draws are at most 0.01.
    assert torch.allclose(share, logits.softmax(0), atol=0.01)


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    gpt = Gpt(GptConfig(11, 8, 32, 2, 4, prefix=1, tie=True))
    batch = {"tokens": torch.randint(11, (3, 7)), "prefix": torch.randn(3, 1, 32)}
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-2)
    for step in range(80):
        optimizer.zero_grad()
        gpt.loss(batch, step)[0].backward()
        optimizer.step()
    assert gpt.loss(batch)[0] < 0.05
    assert torch.equal(gpt.sample(3, batch["prefix"], draw=greedy), batch["tokens"])


def test_bad_input_is_named():
    gpt, tokens = model(prefix=2), torch.randint(11, (1, 6))
    with pytest.raises(ValueError, match=r"prefix must have the shape \(1, 2, 16\), got None"):
        gpt(tokens)
    with pytest.raises(ValueError, match="given must hold a first token"):
        model().sample(2)
    with pytest.raises(ValueError, match=r"length must lie in \[0, 6\], got 7"):
        gpt.sample(1, torch.randn(1, 2, 16), length=7)
    with pytest.raises(ValueError, match=r"segments must cover 4 places, got 3"):
        PlaceHead(8, 11, 4, ((3, 0, 11),))
    with pytest.raises(ValueError, match="segments must be"):
        PlaceHead(8, 11, 4, ((4, 5, 5),))
    with pytest.raises(ValueError, match=r"must lie in \[2, 5\), got 1 to 1"):
        PlaceHead(8, 11, 4, ((4, 2, 5),)).nats(torch.randn(1, 1, 8), torch.tensor([[1]]))


# Next-scale prediction: scales of 1, 4 and 9 codes after a prefix of two.


@pytest.fixture
def pyramid() -> NextScaleGpt:
    torch.manual_seed(0)
    config = GptConfig(13, 16, 16, 2, 2, prefix=2, prefix_causal=False)
    gpt = NextScaleGpt(config, (1, 4, 9), features=5).eval()
    for parameter in gpt.parameters():
        nn.init.normal_(parameter, std=0.3)
    return gpt


def features_of(codes: torch.Tensor) -> torch.Tensor:
    """Any function of all coarser codes, (n, places of the next scale, 5)."""
    size = {1: 4, 5: 9}[codes.shape[1]]
    return torch.sin(torch.arange(size * 5).view(size, 5) * (1.0 + codes.sum(1)[:, None, None]))


def test_pyramids_are_drawn_from_the_uncached_logits(pyramid):
    prefix, seen = torch.randn(3, 2, 16), []
    codes = pyramid.sample(
        3, features_of, prefix, lambda logits: seen.append(logits) or draw_token(logits)
    )
    inputs = torch.cat([features_of(codes[:, :1]), features_of(codes[:, :5])], 1)
    logits = torch.cat([part.view(3, -1, 13) for part in seen], 1)
    assert torch.allclose(logits, pyramid(inputs, prefix), atol=1e-5)
    assert codes.shape == (3, 14) and len(seen) == 3, "one pass a scale"


def test_a_scale_sees_itself_the_coarser_ones_and_the_condition(pyramid):
    features = torch.randn(1, 13, 5, requires_grad=True)
    prefix = torch.randn(1, 2, 16, requires_grad=True)
    logits = pyramid(features, prefix)
    for place in range(14):
        sources = torch.autograd.grad(
            logits[0, place].square().sum(),
            (features, prefix),
            retain_graph=True,
            allow_unused=True,
        )
        reach = sources[0][0].abs().sum(-1) > 0
        end = 0 if place < 1 else 4 if place < 5 else 13
        assert reach.tolist() == [i < end for i in range(13)]
        assert (sources[1][0].abs().sum(-1) > 0).all()


def test_pyramid_loss_weighs_codes_equally(pyramid):
    codes, features = torch.randint(13, (2, 14)), torch.randn(2, 13, 5)
    batch = {"codes": codes, "features": features, "prefix": torch.randn(2, 2, 16)}
    loss, parts = pyramid.loss(batch)
    logits = pyramid(features, batch["prefix"])
    assert torch.allclose(loss, nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten()))
    mean = (parts["scale_1"] + 4 * parts["scale_2"] + 9 * parts["scale_3"]) / 14
    assert torch.allclose(mean, loss.detach())


def test_scales_may_have_vocabularies_of_their_own():
    torch.manual_seed(0)
    config = GptConfig(12, 5, 16, 1, 2, segments=((1, 0, 3), (2, 3, 6), (2, 6, 12)))
    codes = NextScaleGpt(config, (1, 4), 5).sample(50, features_of)
    assert codes[:, 0].max() < 3 and codes[:, 3:].min() >= 6
    assert codes[:, 1:3].min() >= 3 and codes[:, 1:3].max() < 6


def test_bad_scales_are_named(pyramid):
    with pytest.raises(ValueError, match="must fill length=16"):
        NextScaleGpt(pyramid.config, (1, 4), 5)
    with pytest.raises(ValueError, match=r"prefix must have the shape \(3, 2, 16\)"):
        pyramid.sample(3, features_of)
