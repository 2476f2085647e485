"""The language model, its corpus, and what is read from it: against transformers and by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tests.interpret.sample_texts import MANUAL, PLAY
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXForCausalLM

from gentok.base.language_model import (
    PRESETS,
    LanguageModel,
    LanguageModelConfig,
    build,
    load,
    losses,
    residual_stream,
    save,
)
from gentok.interpret.vsae.activations import collect, pick, pick_evenly
from gentok.interpret.vsae.corpus import (
    ENDS,
    KINDS,
    LINES,
    byte_tokenizer,
    line_kinds,
    read_corpus,
    split_texts,
    train_tokenizer,
)
from gentok.measure import count_parameters

SIZES = LanguageModelConfig(300, 16, 3, 2, 32, context=12)


@pytest.fixture(scope="module")
def corpus():
    texts = {"play": PLAY, "manual": MANUAL * 6}
    return read_corpus(texts, train_tokenizer(texts.values(), 300), context=12)


@pytest.fixture(scope="module")
def model(corpus):
    torch.manual_seed(0)
    model = build(SIZES).eval()
    model.tokenizer = corpus.tokenizer
    return model


def test_tiny_and_published_sizes():
    with torch.device("meta"):
        model = build(PRESETS["pythia-70m"])
    assert count_parameters(model) == PRESETS["pythia-70m"].published_params
    # Biderman et al., table 1: 18,915,328 without the two embeddings.
    assert count_parameters(model) - 2 * 50304 * 512 == 18_915_328


def test_loss_equals_the_one_of_transformers(model, corpus):
    tokens = corpus.tokens[:4]
    theirs = model.network(input_ids=tokens, labels=tokens).loss
    ours, parts = model.loss({"tokens": tokens})
    torch.testing.assert_close(ours, theirs)
    assert model.next_token_loss(tokens).shape == (4, 11)
    assert parts["cross_entropy"] == ours


def test_residual_stream_is_the_hidden_state_of_transformers(model, corpus):
    tokens = corpus.tokens[:5]
    states = model.network(input_ids=tokens, output_hidden_states=True).hidden_states
    for layer in (0, 1):  # after the last layer transformers reports the normalised stream
        mine = residual_stream(model, tokens, layer, batch_size=2)
        torch.testing.assert_close(mine, states[layer + 1])


def test_splicing_the_stream_itself_changes_nothing_and_zeros_do(model, corpus):
    tokens = corpus.tokens[:6]
    plain = losses(model, tokens, 1)
    assert torch.equal(losses(model, tokens, 1, lambda stream: stream.clone()), plain)
    zeroed = losses(model, tokens, 1, torch.zeros_like)
    assert not torch.allclose(zeroed, plain)
    # The first position is never replaced, so its prediction stays.
    torch.testing.assert_close(zeroed[:, 0], plain[:, 0])
    assert torch.equal(losses(model, tokens, 1), plain), "the hook must be gone"


def test_splicing_equals_running_the_rest_of_the_network_by_hand(model, corpus):
    tokens = corpus.tokens[:2]
    last = len(model.network.gpt_neox.layers) - 1
    stream = residual_stream(model, tokens, last)
    stream[:, 1:] *= 0.5
    head = model.network.get_output_embeddings()
    logits = head(model.network.gpt_neox.final_layer_norm(stream))
    by_hand = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(losses(model, tokens, last, lambda s: 0.5 * s).mean(), by_hand)


def test_a_folder_in_the_hubs_format_comes_back_the_same(model, corpus, tmp_path):
    save(model, tmp_path)
    again = load(tmp_path)
    tokens = corpus.tokens[:3]
    torch.testing.assert_close(again(tokens), model(tokens))
    assert again.tokenizer("Come, King!").input_ids == model.tokenizer("Come, King!").input_ids
    assert not again.training and again.dim == 16
    acts = collect(again, read_corpus({"play": PLAY}, again.tokenizer, 12), layer=1)
    assert acts.x.shape[1] == 16


def test_missing_model_is_one_plain_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="not found"):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="not found"):
        load(tmp_path)  # a folder without a model


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff" * 99])
def test_a_damaged_file_of_a_model_is_refused(model, tmp_path, file, content):
    save(model, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=tmp_path.name) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_weight_is_made_up(model, tmp_path):
    """`transformers` fills what is absent with random numbers, and only warns."""
    save(model, tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    name = next(name for name in whole if "final_layer_norm" in name)
    for change, words in (
        ({name: None}, "lack .*final_layer_norm"),
        ({name: torch.full_like(whole[name], torch.nan)}, "not finite"),
        ({name: torch.zeros(3)}, "final_layer_norm|mismatch|size"),
    ):
        kept = {n: t for n, t in (whole | change).items() if t is not None}
        save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=words):
            load(tmp_path)


def test_other_architectures_are_refused(tmp_path):
    other = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(ValueError, match="must be a GPT-NeoX, got GPT2LMHeadModel"):
        LanguageModel(other)
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="gpt2, not a gpt_neox"):
        load(tmp_path)


def test_bad_layer_and_heads(model, corpus):
    with pytest.raises(ValueError, match=r"layer must be in \[0, 3\), got 3"):
        residual_stream(model, corpus.tokens[:1], 3)
    with pytest.raises(ValueError, match="num_heads=3 must divide dim=16"):
        LanguageModelConfig(300, 16, 1, 3, 32, 12)


def test_activations_stand_beside_their_tokens(model, corpus):
    acts = collect(model, corpus, layer=1)
    assert len(acts) == len(corpus) * 11  # the first position is left out
    assert math.isclose(float(acts.x.square().sum(-1).mean()), 1, rel_tol=1e-4)
    stream = residual_stream(model, corpus.tokens, 1)
    for row in (0, 10, 11, len(acts) - 1):
        context, position = int(acts.context[row]), int(acts.position[row])
        assert acts.token[row] == corpus.tokens[context, position]
        torch.testing.assert_close(acts.x[row] * acts.scale, stream[context, position])
        assert acts.labels["line"][row] == corpus.labels["line"][context, position]
    assert collect(model, corpus, 1, scale=2.0).scale == 2.0


def test_a_corpus_of_another_tokenizer_is_refused(corpus):
    small = build(LanguageModelConfig(100, 16, 1, 2, 32, 12))
    with pytest.raises(ValueError, match="model has 100"):
        collect(small, corpus, 0)


def test_lines_of_a_manual():
    kinds = line_kinds(MANUAL)
    assert len(kinds) == len(MANUAL)
    for text, name in (
        ("The pass", "heading"),
        ("*****", "heading"),
        ("pass_stmt", "grammar"),
        ("null operation", "prose"),
        ("nothing, for", "prose"),
        (">>>", "code"),
        ("x = 1", "code"),
        ("Done", "prose"),
    ):
        assert LINES[kinds[MANUAL.index(text)]] == name, text


def test_lines_of_a_play():
    kinds = line_kinds(PLAY)
    assert LINES[kinds[PLAY.index("King")]] == "speaker"
    assert LINES[kinds[PLAY.index("Come")]] == "verse"


def test_labels_of_tokens(corpus):
    seen = set()
    for context in range(0, len(corpus), 7):
        words = corpus.words(context)
        labels = (corpus.labels[name][context].tolist() for name in ("kind", "ends"))
        for place, (kind, ends) in enumerate(zip(*labels, strict=True)):
            word, after = words[place], "".join(words[place + 1 : place + 2])
            first = word.strip()[:1] if word.strip() else word[:1]
            if first.isdigit():
                assert KINDS[kind] == "digit"
            if not word[-1].isalpha():
                assert ends == -1
            elif after:
                assert ENDS[ends] == ("the word goes on" if after[0].isalpha() else "the word ends")
            seen.add((KINDS[kind], ends))
    assert {("word", 0), ("word", 1), ("punctuation", -1), ("space", -1)} <= seen


def test_contexts_join_to_the_text(corpus):
    rows = corpus.labels["source"][:, 0] == 0
    text = "".join("".join(corpus.words(i)) for i in rows.nonzero()[:, 0].tolist())
    assert PLAY.startswith(text) and len(PLAY) - len(text) < 12 * 10


def test_shuffling_keeps_every_context_once(corpus):
    again = corpus.shuffled(seed=3)
    assert not torch.equal(again.tokens, corpus.tokens)
    assert sorted(again.tokens.tolist()) == sorted(corpus.tokens.tolist())


def test_split_texts_keeps_every_piece_once():
    text = "".join(chr(ord("a") + i) * 10 for i in range(17))
    train, test = split_texts({"one": text, "two": text.upper()}, piece=10, every=4)
    assert test["one"] == "d" * 10 + "h" * 10 + "l" * 10 + "p" * 10
    assert sorted(train["two"] + test["two"]) == sorted(text.upper())
    with pytest.raises(ValueError, match="'one' has 17 pieces of 10, needs 18"):
        split_texts({"one": text}, piece=10, every=18)


def test_a_byte_is_a_token_whatever_the_text():
    tokenizer = byte_tokenizer()
    for text in ("To be, or not to be:\n\n  >>> 1 + 1", "\t~|"):
        assert len(tokenizer(text).input_ids) == len(text.encode())
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer) == PRESETS["tiny"].vocab_size


def test_short_text_and_small_vocabulary_are_refused(corpus):
    with pytest.raises(ValueError, match="shorter than one context"):
        read_corpus({"nothing": "Hi."}, corpus.tokenizer, 64)
    with pytest.raises(ValueError, match="at least 257"):
        train_tokenizer([PLAY], 100)


def test_picks_are_fixed_even_and_apply():
    labels = torch.tensor([0] * 50 + [1] * 5 + [-1] * 20)
    assert (labels[pick(labels, 30)] >= 0).all() and len(pick(labels, 30)) == 30
    rows = pick_evenly(labels, 20)
    assert torch.bincount(labels[rows]).tolist() == [10, 5]
    assert torch.equal(rows, pick_evenly(labels, 20))


def test_network_is_the_one_of_transformers():
    assert isinstance(build(SIZES).network, GPTNeoXForCausalLM)
