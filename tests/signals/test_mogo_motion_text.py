"""Sentence vectors: words that are told apart, and a CLIP model read from a folder."""

import json

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from gentok.data import sample_motions
from gentok.signals.mogo.motion_text import ClipText, HashedWords


def test_words_of_the_captions_are_told_apart():
    text = HashedWords(64)
    captions = sorted(set(sample_motions(400, frames=2).captions))
    words = sorted({word for caption in captions for word in caption.split()})
    vectors = torch.stack([text.word(word) for word in words])
    assert torch.linalg.matrix_rank(vectors) == len(words), "a linear layer could not part them"
    rows = text.encode(captions)
    assert rows.shape == (len(captions), 64) and torch.pdist(rows).min() > 0.1


def test_same_sentence_same_vector():
    text = HashedWords(32)
    assert torch.equal(text.encode(["a person waves"]), text.encode(["A person waves."]))
    expected = (text.word("a") + text.word("b")) / 2**0.5
    torch.testing.assert_close(text.encode(["a b"])[0], expected)


def test_bad_input():
    with pytest.raises(ValueError, match="at least one word"):
        HashedWords(8).encode([" "])
    with pytest.raises(ValueError, match="dim must be at least 1"):
        HashedWords(0)


@pytest.fixture
def folder(tmp_path):
    """A tiny CLIP text model with random weights and a tokenizer of letters."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = letters + [f"{c}</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    config = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, projection_dim=12,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=20,
        bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPTextModelWithProjection(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 20})
    )
    return tmp_path


def test_clip_from_a_folder(folder):
    text = ClipText(folder)
    captions = ["a cat", "a dog runs", "a " * 50]
    rows = text.encode(captions)
    assert text.dim == 12 and rows.shape == (3, 12) and rows.isfinite().all()
    torch.testing.assert_close(text.encode(captions[:1]), rows[:1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(rows[0], rows[1])
    assert not any(p.requires_grad for p in text.model.parameters())


def test_an_absent_model_is_one_plain_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no CLIP text model at"):
        ClipText(tmp_path / "nothing")
