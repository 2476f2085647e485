"""Speculative decoding writes what the verifier alone would write, whatever the draft."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from gentok.nn.causal import CausalSelfAttention, KVCache
from gentok.process.autoregressive import filter_logits
from gentok.process.speculative import (
    ACCEPTED,
    BONUS,
    CORRECTED,
    Cached,
    Prefix,
    next_distribution,
    speculate,
    verify,
)

K = 4


class Chain:
    """A predictor whose next token depends on the last two alone; counts what it is asked."""

    def __init__(self, table):
        self.table, self.tokens, self.calls = table, [], 0

    def __len__(self):
        return len(self.tokens)

    def extend(self, tokens):
        start, self.calls = len(self.tokens), self.calls + 1
        self.tokens += tokens[0].tolist()
        rows = [
            self.table[self.tokens[max(i - 1, 0)], self.tokens[i]]
            for i in range(start, len(self.tokens))
        ]
        return torch.stack(rows)[None]

    def truncate(self, length):
        assert 0 <= length <= len(self.tokens)
        del self.tokens[length:]


class Network(torch.nn.Module):
    """Two causal layers: enough for the cache to matter."""

    def __init__(self, vocab=11, dim=16):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab, dim)
        self.layers = torch.nn.ModuleList(CausalSelfAttention(dim, 2) for _ in range(2))
        self.head = torch.nn.Linear(dim, vocab)

    def forward(self, tokens, caches=None):
        x = self.embedding(tokens)
        for layer, cache in zip(self.layers, caches or [None, None], strict=True):
            x = x + layer(x, cache)
        return 3 * self.head(x)

    def cached(self, caches=None):
        return Cached(self, [KVCache() for _ in self.layers] if caches is None else caches)


def tables(seed=0):
    """Logits of a draft and a verifier that disagree a lot: (K, K, K) each."""
    noise = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(2, K, K, K, generator=noise)


def fits(counts, expected):
    """P value of the chi-square test; the expected counts are scaled to the observed total."""
    counts, expected = counts.double(), expected.double()
    return chisquare(counts.numpy(), (expected * counts.sum() / expected.sum()).numpy()).pvalue


def test_first_token_and_the_one_after_follow_the_verifier():
    """A batch of 40,000 rounds of two drafts: the joint law of the first two tokens is p p."""
    torch.manual_seed(0)
    q = torch.tensor([[0.7, 0.2, 0.1, 0.0], [0.1, 0.1, 0.4, 0.4]])
    p = torch.tensor([[0.1, 0.3, 0.3, 0.3], [0.4, 0.3, 0.2, 0.1], [0.0, 0.5, 0.25, 0.25]])
    n = 40_000
    drafts = torch.stack([torch.multinomial(row, n, replacement=True) for row in q], 1)
    accepted, following = verify(drafts, q.expand(n, 2, K), p.expand(n, 3, K))
    first = torch.where(accepted > 0, drafts[:, 0], following)
    assert fits(torch.bincount(first, minlength=K), n * p[0]) > 1e-3
    deep = accepted > 0  # these rounds wrote a second token
    second = torch.where(accepted > 1, drafts[:, 1], following)[deep]
    assert fits(torch.bincount(second, minlength=K), deep.sum() * p[1]) > 1e-3
    third = following[accepted == 2]
    counts = torch.bincount(third, minlength=K)
    assert counts[0] == 0 and fits(counts[1:], len(third) * p[2, 1:]) > 1e-3
    overlap = torch.minimum(p[0], q[0]).sum()
    assert abs(deep.float().mean() - overlap) < 0.01  # acceptance is the overlap of the two laws


@pytest.mark.parametrize("k", [1, 3])
def test_whole_texts_follow_the_verifier(k):
    """All 64 texts of three tokens, 3,000 drawn, against their exact probabilities."""
    torch.manual_seed(1)
    draft, verifier = tables()
    prompt, n = torch.tensor([0]), 3000
    counts = torch.zeros(K, K, K)
    for _ in range(n):
        counts[tuple(speculate(Chain(draft), Chain(verifier), prompt, 3, k).tokens)] += 1
    p = verifier.softmax(-1)
    exact = p[0, 0][:, None, None] * p[0][:, :, None] * p  # p(a|00) p(b|0a) p(c|ab)
    assert abs(float(exact.sum()) - 1) < 1e-5
    merged = torch.stack([counts.flatten(), n * exact.flatten()])
    rare = merged[1] < 5  # the test needs five expected counts a cell
    merged = torch.cat([merged[:, ~rare], merged[:, rare].sum(1, keepdim=True)], 1)
    assert fits(*merged) > 1e-3
    q = draft.softmax(-1)
    wrong = n * (q[0, 0][:, None, None] * q[0][:, :, None] * q).flatten()
    wrong = torch.cat([wrong[~rare], wrong[rare].sum(0, keepdim=True)])
    assert fits(merged[0], wrong) < 1e-6, "the draft's own law"


def test_one_long_text_has_the_verifiers_transitions():
    torch.manual_seed(2)
    draft, verifier = tables(1)
    text = speculate(Chain(draft), Chain(verifier), torch.tensor([0, 0]), 4000, k=3).tokens
    p = verifier.softmax(-1)
    for pair in [(0, 1), (1, 2), (3, 3)]:
        at = ((text[:-2] == pair[0]) & (text[1:-1] == pair[1])).nonzero()[:, 0]
        counts = torch.bincount(text[at + 2], minlength=K)
        assert fits(counts, len(at) * p[pair]) > 1e-3


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_greedy_speculation_is_greedy_decoding(seed, k, length):
    draft, verifier = tables(seed)
    plain, greedy = [0], Chain(verifier)
    for _ in range(length):
        plain.append(int(greedy.extend(torch.tensor([plain[len(greedy) :]]))[0, -1].argmax()))
    models = Chain(draft), Chain(verifier)
    result = speculate(*models, torch.tensor([0]), length, k, temperature=0)
    assert result.tokens.tolist() == plain[1:]
    assert result.verifier_calls == models[1].calls <= length
    assert len(result.tokens) == length == len(result.origin)
    assert (result.origin == ACCEPTED).sum() == result.accepted
    assert (result.origin != ACCEPTED).sum() == result.verifier_calls


@pytest.mark.parametrize("shared", [False, True])
def test_caches_are_truncated_to_what_was_accepted(shared):
    """Greedy text with caches, and with one shared cache, equals that of whole prefixes."""
    torch.manual_seed(3)
    verifier = Network()
    draft = verifier if shared else Network()
    if shared:  # another head on the same attention: the draft differs, its keys and values do not
        other = torch.nn.Linear(16, 11)

        def half(tokens, caches):
            return verifier(tokens, caches) + other(verifier.embedding(tokens))

    prompt = torch.tensor([1, 2, 3])
    reference = prompt
    for _ in range(20):
        following = verifier(reference[None])[0, -1].argmax()
        reference = torch.cat([reference, following[None]])
    one = verifier.cached()
    two = Cached(half, one.caches) if shared else draft.cached()
    result = speculate(two, one, prompt, 20, k=4, temperature=0)
    assert torch.equal(result.tokens, reference[3:])
    assert 0 < result.accepted < result.drafted, "the case tests nothing"
    # All but the last token are held; the kept keys are those of the verifier alone.
    fresh = verifier.cached()
    fresh.extend(reference[None, : len(one)])
    assert len(one) == len(reference) - 1
    for kept, expected in zip(one.caches, fresh.caches, strict=True):
        torch.testing.assert_close(kept.keys, expected.keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(kept.values, expected.values, rtol=1e-4, atol=1e-5)


def test_prefix_functions_serve_as_predictors():
    torch.manual_seed(4)
    verifier = Network()
    law = {"temperature": 0, "k": 3}
    cached = speculate(verifier.cached(), verifier.cached(), torch.tensor([5]), 12, **law)
    plain = speculate(Prefix(verifier), Prefix(verifier), torch.tensor([5]), 12, **law)
    assert torch.equal(cached.tokens, plain.tokens)
    assert plain.acceptance == 1.0 and plain.verifier_calls == 3  # 4 tokens a pass
    assert plain.tokens_per_call == 4.0
    assert plain.origin.tolist() == ([ACCEPTED] * 3 + [BONUS]) * 3


def test_a_draft_that_is_never_right_costs_a_call_a_token():
    table = torch.full((K, K, K), -50.0)
    always = {i: table.clone() for i in (0, 1)}
    for i, logits in always.items():
        logits[..., i] = 50.0
    result = speculate(Chain(always[0]), Chain(always[1]), torch.tensor([2]), 7, k=3)
    assert result.tokens.tolist() == [1] * 7
    assert result.accepted == 0 and result.verifier_calls == 7
    assert result.origin.tolist() == [CORRECTED] * 6 + [BONUS]  # nothing is drafted at the end
    assert result.drafted == 6, "only the judged draft of a round counts"


@pytest.mark.parametrize("law", [{"temperature": 0.7}, {"top_k": 2}, {"top_p": 0.6}])
def test_the_law_is_the_samplers(law):
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    temperature = law.pop("temperature", 1.0)
    expected = filter_logits(logits / temperature, **law).softmax(-1)
    torch.testing.assert_close(next_distribution(logits, temperature, **law), expected)
    greedy = next_distribution(logits, 0)
    assert torch.equal(greedy.argmax(-1), logits.argmax(-1)) and greedy.max() == 1


def test_determinism():
    draft, verifier = tables()
    texts = []
    for _ in range(2):
        torch.manual_seed(7)
        texts.append(speculate(Chain(draft), Chain(verifier), torch.tensor([1]), 40).tokens)
    assert torch.equal(*texts)


def test_bad_input():
    draft, verifier = tables()
    good = torch.tensor([0])
    with pytest.raises(ValueError, match=r"prompt must be \(N,\)"):
        speculate(Chain(draft), Chain(verifier), torch.tensor([[0]]), 3)
    with pytest.raises(ValueError, match="length and k must be at least 1, got 0 and 4"):
        speculate(Chain(draft), Chain(verifier), good, 0)
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        speculate(Chain(draft), Chain(verifier), good, 3, temperature=-1)
    used = Chain(draft)
    used.extend(torch.tensor([[0, 1]]))
    with pytest.raises(ValueError, match="predictors must be empty, hold 2 and 0"):
        speculate(used, Chain(verifier), good, 3)
    with pytest.raises(ValueError, match=r"need laws"):
        verify(torch.zeros(2, 3, dtype=torch.int64), torch.rand(2, 3, K), torch.rand(2, 3, K))
