"""The evaluation, the toy and the explanations, on autoencoders whose answers are known."""

import html
import re

import numpy as np
import pytest
import torch
from tests.interpret.sample_texts import MANUAL, PLAY

from gentok.base.language_model import LanguageModelConfig
from gentok.interpret.vsae.activations import Activations
from gentok.interpret.vsae.bench import (
    SHARES,
    Bench,
    features_of,
    neighbours_agree,
    spurious_label,
)
from gentok.interpret.vsae.corpus import byte_tokenizer, read_corpus
from gentok.interpret.vsae.explain import (
    clusters,
    contexts_table,
    hover_map,
    in_context,
    name_cluster,
    summarise,
    top_contexts,
)
from gentok.interpret.vsae.recipe import (
    language_stage,
    make_bench,
    topk_rate,
    topk_stage,
    train_language_model,
    train_sae,
)
from gentok.interpret.vsae.superposition import Superposition
from gentok.nn.sae import TopKSAE

SIZES = LanguageModelConfig(300, 16, 2, 2, 32, context=12)


@pytest.fixture(scope="module")
def bench():
    texts = {"manual": MANUAL * 12, "play": PLAY * 3}
    corpus = read_corpus(texts, byte_tokenizer(), context=12)
    mixed = corpus.shuffled()
    train, test = mixed._take(torch.arange(60, len(mixed))), mixed.head(60)
    model = train_language_model(SIZES, train, language_stage(60)).model
    return make_bench(model, train, test, 0, loss_contexts=20, probe_items=400)


def identity(dim: int) -> TopKSAE:
    """An autoencoder that loses nothing: entries e_i and -e_i, all kept."""
    sae = TopKSAE(dim, 2 * dim, 2 * dim)
    with torch.no_grad():
        rows = torch.cat([torch.eye(dim), -torch.eye(dim)])
        sae.dictionary.copy_(rows)
        sae.encoder.weight.copy_(rows)
    return sae.eval()


def test_perfect_autoencoder_scores_perfectly(bench):
    scores = bench.core(identity(16))
    assert scores["explained_variance"] == pytest.approx(1, abs=1e-5)
    assert scores["cosine"] == pytest.approx(1, abs=1e-5)
    assert scores["ce_score"] == pytest.approx(1, abs=1e-4)
    assert scores["l0"] == pytest.approx(16)  # one of each pair is positive
    assert scores["nearest"] == pytest.approx(0, abs=1e-6)


def test_autoencoder_of_nothing_scores_nothing(bench):
    sae = identity(16)
    with torch.no_grad():
        sae.encoder.bias.fill_(-1e6)
    scores = bench.core(sae)
    assert scores["alive"] == 0 and scores["l0"] == 0
    assert scores["ce_score"] == pytest.approx(0, abs=1e-5), "its bias is 0: zero ablation"


def test_probes_on_a_lossless_dictionary_beat_chance(bench):
    sae = identity(16)
    scores = bench.probing(sae, ks=(1, 32))
    assert 0.5 < scores["probe_1"] < scores["probe_32"]
    assert set(bench.spurious(sae, ns=(5,))) == {"scr_5", "scr_gap"}
    effect = bench.targeted(sae, ns=(5,))
    assert effect["tpp_total_5"] == pytest.approx(
        effect["tpp_intended_5"] - effect["tpp_unintended_5"]
    )


def test_the_paper_ablates_the_same_shares():
    """50 of 8,192 features are 0.6 %: 6 of 1,024, not 50."""
    assert {round(1024 * n / 8192) for n in (20, 50, 100, 200, 400)} == {2, 6, 12, 25, 50}
    assert SHARES == (3, 6, 12, 25, 50)


def test_spurious_label_falls_back_to_kinds_of_lines(bench):
    acts = bench.train
    assert torch.equal(spurious_label(acts), acts.labels["source"])
    manual = acts.labels["source"] == 0
    alone = Activations(
        acts.x[manual],
        acts.scale,
        acts.token[manual],
        acts.context[manual],
        acts.position[manual],
        {name: values[manual] for name, values in acts.labels.items()},
    )
    assert spurious_label(alone).unique().tolist() == [-1, 0, 1]


def test_training_an_autoencoder_on_activations(bench):
    torch.manual_seed(0)
    sae = TopKSAE(16, 64, 4)
    before = bench.core(sae)["explained_variance"]
    result = train_sae(sae, bench.train, topk_stage(64, 200), seed=0)
    assert bench.core(sae)["explained_variance"] > max(0.6, before)
    assert result.history[-1]["lr"] < 0.2 * topk_rate(64) < 1e-2
    assert topk_rate(8192) == pytest.approx(2.83e-4, rel=1e-2)


def test_summaries_name_the_token_a_feature_fires_on(bench):
    acts, corpus = bench.test, bench.corpus
    token = int(acts.token.bincount().argmax())
    features = torch.zeros(len(acts), 3)
    features[:, 1] = (acts.token == token).float()
    play = corpus.classes["source"].index("play")
    features[:, 2] = (acts.labels["source"] == play).float()
    found = summarise(features, acts, corpus)
    assert list(found) == [1, 2], "a feature that never fires has no summary"
    assert found[1].tokens == (corpus.tokenizer.decode([token]),) and found[1].share == 1
    assert found[1].density == pytest.approx(float((acts.token == token).float().mean()))
    assert ("line", "verse") in found[2].labels
    assert "mixed" in name_cluster([found[1]]) or found[1].labels


def test_contexts_mark_the_firing_token_and_escape_text(bench):
    acts, corpus = bench.test, bench.corpus
    column = torch.zeros(len(acts))
    column[[5, 6, 40]] = torch.tensor([1.0, 3.0, 2.0])
    rows = top_contexts(column, acts, count=3)
    assert rows == [6, 40], "two of the rows share a context"
    assert top_contexts(column, acts, count=3, apart=False) == [6, 40, 5]
    page = contexts_table({"a < b": column}, acts, corpus)
    assert "a &lt; b" in page and "<details>" not in page
    assert "<summary>all &amp; more" in contexts_table(
        {"a": column}, acts, corpus, folded="all & more"
    )
    words, place = corpus.words(int(acts.context[6])), int(acts.position[6])
    shades = re.findall(r"rgb\(255,(\d+),\d+\);color:#111\">(.*?)</mark>", page)
    assert len(shades) == 3, "two features' tokens in one context, one in another"
    strong = re.findall(r"<mark[^>]*>(.*?)</mark>", in_context(6, column, acts, corpus))
    assert [html.unescape(t).replace("⏎", "\n") for t in strong] == words[place - 1 : place + 1]
    assert int(shades[1][0]) < int(shades[0][0]), "the stronger one is darker"


def test_hover_map_is_self_contained():
    points = np.array([[0.0, 0.0], [1.0, 2.0]])
    page = hover_map(points, ["<one>", "two"], ["#000", "#111"], "a map")
    assert page.count("<circle") == page.count("<title>") == 2
    assert "&lt;one&gt;" in page and 'aria-label="a map"' in page
    assert not re.search(r"https?://|<script|<link|src=", page)


def test_clusters_separate_two_heaps():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.1, (20, 2)), rng.normal(5, 0.1, (20, 2))])
    found = clusters(points, 2)
    assert len(set(found[:20])) == len(set(found[20:])) == 1 and found[0] != found[20]


def test_superposition_has_zipf_rates_and_unit_energy():
    toy = Superposition()
    x, strengths = toy.sample(20_000, seed=5)
    assert x.shape == (20_000, 64) and strengths.shape == (20_000, 256)
    assert float(x.square().sum(-1).mean()) == pytest.approx(1, abs=0.03)
    rates = (strengths > 0).float().mean(0)
    assert rates[0] / rates[9] == pytest.approx(10, rel=0.1)
    assert float(rates.sum()) == pytest.approx(4, rel=0.02)
    assert torch.equal(toy.batches(4, 1)(3)["x"], toy.batches(4, 1)(3)["x"])
    assert not torch.equal(toy.batches(4, 1)(3)["x"], toy.batches(4, 2)(3)["x"])


def test_recovery_counts_true_directions():
    toy = Superposition(num_directions=12, dim=16, mean_active=3)
    sae = TopKSAE(16, 8, 8)
    with torch.no_grad():
        sae.dictionary.copy_(torch.cat([toy.directions[:6], -toy.directions[6:8]]))
        sae.encoder.weight.copy_(sae.dictionary)
        sae.encoder.bias.fill_(1.0)  # everything fires
    assert toy.measure(sae)["recovered"] == 0.5, "six of twelve; the wrong sign does not count"
    assert toy.measure(sae)["recovered_rare"] == 0, "the six found are the most frequent"
    assert toy.measure(sae)["alive"] == 1


def test_neighbours_agree_if_kinds_have_directions_of_their_own():
    labels = torch.arange(400) % 2
    features = torch.zeros(400, 40)
    for i in range(40):  # features 0 to 19 fire on kind 0, the others on kind 1
        features[labels == i // 20, i] = 1.0
    rows = torch.eye(2).repeat_interleave(20, 0) + 0.01 * torch.randn(40, 2)
    assert neighbours_agree(features, rows, labels) == pytest.approx(0.5)
    mixed = rows[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    assert neighbours_agree(features, mixed, labels) < 0.3
    assert neighbours_agree(features * 0, rows, labels) == 0


def test_features_of_follows_the_order_of_the_activations(bench):
    sae = identity(16)
    assert torch.equal(features_of(sae, bench.test)[17], sae.encode(bench.test.x[17]))
    assert isinstance(bench, Bench)
