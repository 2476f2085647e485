"""`gentok train vsae` and `gentok sample vsae`, as the command line calls them."""

import pytest
import torch
from datasets import Dataset

from gentok.base.gelu_1l import Gelu1L, Gelu1LConfig
from gentok.base.language_model import LanguageModelConfig
from gentok.base.language_model import build as build_language_model
from gentok.interpret.vsae import recipe
from gentok.interpret.vsae.corpus import byte_tokenizer
from gentok.interpret.vsae.model import PRESETS, VSAE, VSAEConfig
from gentok.interpret.vsae.recipe import (
    WarmUpStayDecay,
    plan,
    sample,
    topk_stage,
    train,
    vsae_stage,
)
from gentok.interpret.vsae.webtext import web_corpus
from gentok.training.profiles import profile
from gentok.training.stages import stage

CONFIG = VSAEConfig(dim=16, num_features=64, k=4, kl_warmup=2)


@pytest.mark.slow
def test_train_then_sample(tmp_path, monkeypatch):
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    monkeypatch.setitem(PRESETS, "tiny", CONFIG)
    out = tmp_path / "vsae.safetensors"
    model = train("tiny", profile("smoke"), out=out, resume=False, seed=1)
    assert isinstance(model, VSAE) and not model.training
    assert out.is_file() and stage(out, "language_model").is_file()
    assert stage(out, "topk").is_file()

    again = train("tiny", profile("smoke"), out=out, resume=True, seed=1)
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), "a finished run must come back as it was"

    sample(out, tmp_path / "features.txt", n=3, seed=0)
    text = (tmp_path / "features.txt").read_text(encoding="utf-8")
    assert text.count("feature ") == 3 and "of 64 features fire" in text
    assert "[[" in text, "the firing token must be marked"


def test_the_published_schedule():
    """200 and 1,000 steps of s / w, a fifth of decay to 0, of 10,001."""
    vsae, topk = vsae_stage(10_001).schedule, topk_stage(8192, 10_001).schedule
    assert [vsae(s) for s in (0, 1, 100, 200)] == [0, 1 / 200, 0.5, 1]
    assert [topk(s) for s in (0, 500, 1000, 8000)] == [0, 0.5, 1, 1]
    assert vsae(9000) == pytest.approx(1001 / 2001) and 0 < vsae(10_000) < 1e-3
    assert vsae == WarmUpStayDecay(10_001, 200)
    assert vsae_stage(10).fit_arguments()["warmup"] == 0, "the schedule has its own"


@pytest.mark.parametrize(
    ("preset", "host", "layer"),
    [
        ("tiny", "own", 1),
        ("book", "own", 1),
        ("pythia-70m-k256", "pythia", 3),
        ("gelu-1l-k64", "gelu-1l", 0),
    ],
)
def test_every_preset_has_its_own_host(preset, host, layer):
    task = plan(preset, profile("gpu"))
    assert (task.host, task.layer) == (host, layer)
    assert task.vsae.steps == task.topk.steps == 10_001 and task.size.kl_warmup == 1000
    assert task.topk_size.num_features == task.size.num_features
    if host != "own":
        assert task.contexts * 127 >= 10_001 * 192 > (task.contexts - 1) * 127


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pythia", "gelu-1l"])
def test_published_presets_read_a_folder_of_text(name, tmp_path, monkeypatch):
    """The whole path, with a host of random weights that has the published layout."""
    tokenizer = byte_tokenizer()
    (tmp_path / "text" / "web").mkdir(parents=True)
    if name == "gelu-1l":
        rows = [{"tokens": list(range(200))}, {"tokens": list(range(57, 257))}]
        Dataset.from_list(rows * 20).to_parquet(str(tmp_path / "text" / "web" / "a.parquet"))
        small = Gelu1L(Gelu1LConfig(257, 512, n_heads=2, d_head=8, d_mlp=16, n_ctx=128), tokenizer)
    else:
        (tmp_path / "text" / "web" / "a.txt").write_text("To be, or not to be.\n" * 80)
        small = build_language_model(LanguageModelConfig(257, 512, 4, 2, 32, 128))
        small.tokenizer = tokenizer
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.setattr(recipe, "host", lambda name, download=True: small.eval())
    preset = f"{'gelu-1l' if name == 'gelu-1l' else 'pythia-70m'}-k64"
    model = train(preset, profile("smoke"), seed=0)
    assert model.config.num_features == PRESETS[preset].num_features
    if name == "gelu-1l":  # rows are cut one by one: a rest of 72 tokens is dropped
        corpus = web_corpus(name, None, 128, 3)
        assert corpus.tokens[:, 0].tolist() == [0, 57, 0]
    else:
        corpus = web_corpus(name, tokenizer, 128, 2)
        assert tokenizer.decode(corpus.tokens.flatten()).startswith("To be, or not to be.<|endof")
    with pytest.raises(ValueError, match="contexts of 128, 9999 asked"):
        web_corpus(name, tokenizer, 128, 9999)


class Speller:
    """Tokens are numbers of letters; 0 begins a text."""

    @classmethod
    def from_pretrained(cls, name):
        assert name == "NeelNanda/gpt-neox-tokenizer-digits", "the tokens are gelu-1l's"
        return cls()

    def decode(self, tokens, skip_special_tokens):
        return "".join(chr(96 + t) for t in tokens if t or not skip_special_tokens)


def test_pythia_reads_the_published_text_and_not_gelu_s_tokens(tmp_path, monkeypatch):
    rows, asked = [{"tokens": [0, 1, 2, 3] * 3, "more": 1}] * 3, []

    def load_dataset(name, **settings):
        asked.append((name, settings))
        return Dataset.from_list(rows)

    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr("gentok.interpret.vsae.webtext.AutoTokenizer", Speller)
    tokenizer = byte_tokenizer()
    corpus = web_corpus("pythia", tokenizer, 10, 2)
    assert tokenizer.decode(corpus.tokens.flatten()) == "abcabcabc<|endoftext|>" * 2
    assert web_corpus("gelu-1l", None, 12, 3).tokens.tolist() == [row["tokens"] for row in rows]
    wanted = ("NeelNanda/c4-code-tokenized-2b", {"split": "train", "streaming": True})
    assert asked == [wanted, wanted]


def test_no_text_is_one_plain_error(tmp_path, monkeypatch):
    (tmp_path / "text" / "web").mkdir(parents=True)
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="neither"):
        web_corpus("pythia", None, 128, 1)


@pytest.mark.parametrize(
    "content",
    [
        {"text": ["a", None]},
        {"tokens": [[1, 2], None]},
        {"tokens": [[1, -1]]},
        {"tokens": [[1, 50_304]]},
        b"PAR1",
        b"",
    ],
)
def test_damaged_text_is_refused_by_name(tmp_path, monkeypatch, content):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "text" / "web" / "a.parquet"
    path.parent.mkdir(parents=True)
    if isinstance(content, dict):
        Dataset.from_dict(content).to_parquet(path)
    else:
        path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"text/web/\*\.parquet is not a readable source"
    ) as caught:
        web_corpus("pythia", byte_tokenizer(), 2, 5)
    assert "\n" not in str(caught.value)
