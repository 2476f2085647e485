import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TopKLogitsWarper, TopPLogitsWarper

from gentok.nn.place_head import draw_token
from gentok.process.autoregressive import filter_logits, sample_next, write_tokens
from gentok.process.masked import sample_categorical
from gentok.process.speculative import next_distribution


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), top_k=st.integers(1, 12), top_p=st.floats(0.05, 0.999))
def test_filters_equal_those_of_transformers(seed, top_k, top_p):
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    theirs = TopKLogitsWarper(top_k)(None, logits)
    assert torch.equal(filter_logits(logits, top_k=top_k), theirs)
    theirs = TopPLogitsWarper(top_p)(None, logits)
    assert torch.equal(filter_logits(logits, top_p=top_p), theirs)


def test_one_code_survives_the_smallest_nucleus():
    kept = filter_logits(torch.zeros(2, 5), top_p=1e-6).isfinite()
    assert kept.sum(-1).tolist() == [1, 1]


def test_frequencies_follow_the_tempered_softmax():
    torch.manual_seed(0)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    draws = sample_next(logits.expand(40_000, 4), temperature=0.5, top_k=3)
    share = torch.bincount(draws, minlength=4) / len(draws)
    expected = torch.cat([(logits[:3] / 0.5).softmax(-1), torch.zeros(1)])
    deviation = (expected * (1 - expected) / len(draws)).sqrt()
    assert ((share - expected).abs() <= 4 * deviation).all()


def test_temperature_zero_is_greedy():
    logits = torch.randn(4, 6, 9)
    assert torch.equal(sample_next(logits, temperature=0), logits.argmax(-1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be at least 0, got -1.0"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], got 0.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        sample_next(torch.zeros(1, 3), **options)


NOTHING = (torch.full((2, 3), -torch.inf), torch.tensor([[0.0, torch.nan, 1.0]]))


@pytest.mark.parametrize("logits", [*NOTHING, torch.tensor([[0.0, torch.inf]])])
@pytest.mark.parametrize(
    "draw",
    [
        *(sample_next, lambda x: sample_next(x, temperature=0), lambda x: sample_next(x, top_k=2)),
        *(filter_logits, lambda x: filter_logits(x, top_p=0.5), sample_categorical, draw_token),
        *(next_distribution, lambda x: next_distribution(x, temperature=0)),
    ],
)
def test_where_there_is_nothing_to_draw_it_says_so(logits, draw):
    """NaN used to be drawn as the largest, and of forbidden codes the first."""
    with pytest.raises(ValueError, match="a finite largest entry in each row, and no NaN"):
        draw(logits)


def test_one_code_that_is_left_is_drawn():
    logits = torch.tensor([[-torch.inf, 3.0, -torch.inf]])
    for draw in (sample_next, draw_token, lambda x: sample_next(x, top_k=1, top_p=0.1)):
        assert draw(logits).tolist() == [1]


def test_writing_hands_each_token_back():
    """Oracle: a rule whose next token is the sum of the last two, modulo 5."""
    seen = []

    def step(new):
        seen.append(new)
        so_far = torch.cat(seen, dim=1)
        following = so_far + F.pad(so_far, (1, 0))[:, :-1]  # (n, N)
        return F.one_hot(following % 5, 5).float()[:, -new.shape[1] :]

    prompt = torch.tensor([[0, 1], [2, 2]])
    found = write_tokens(step, prompt, 4, lambda logits: logits.argmax(-1))
    assert found.tolist() == [[1, 2, 3, 0], [4, 1, 0, 1]]
    assert [part.shape[1] for part in seen] == [2, 1, 1, 1], "old tokens are not read again"
    for bad in ((prompt[:, :0], 3), (prompt[0], 3), (prompt, 0)):
        with pytest.raises(ValueError, match="need a prompt"):
            write_tokens(step, *bad)
