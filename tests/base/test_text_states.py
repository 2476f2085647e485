"""Captions as sequences of vectors: the offline words, and any encoder of `transformers`."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

from gentok.base.text_states import OFFLINE, PretrainedStates, WordStates, text_states
from gentok.data.words import Words
from gentok.training.configs import Foreign

LIST = ["<pad>", "<unk>", "a", "red", "star", "disc"]


def saved(folder, model):
    """A small untrained encoder with a tokenizer, as a hub folder holds them."""
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(LIST)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    return str(folder)


def clip():
    text = {
        "vocab_size": len(LIST), "hidden_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 9,
        "eos_token_id": 5,
    }  # fmt: skip
    image = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16, "image_size": 8, "patch_size": 4}  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=8))


def t5():
    sizes = {"d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    return T5Model(T5Config(vocab_size=len(LIST), d_model=16, **sizes))


def bert():
    return BertModel(
        BertConfig(
            vocab_size=len(LIST),
            hidden_size=20,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
    )


def test_words_are_fixed_vectors_at_their_places():
    words = Words(("a", "red", "star"))
    states = WordStates(words, 6, 4)
    out = states(["a red star", "star a", ""])
    assert out.shape == (3, 4, 6)
    assert torch.equal(out, WordStates(words, 6, 4)(["a red star", "star a", ""]))
    moved = out[0, 2] - states.places[2] - (out[1, 0] - states.places[0])
    assert moved.abs().max() < 1e-6  # "star" is one vector wherever it stands
    assert torch.equal(out[0, 3], out[2, 3]) and out[2].abs().max() > 0  # padding has one, too
    with pytest.raises(ValueError, match="unknown word 'unicorn'"):
        states(["a unicorn"])


def test_a_clip_gives_its_last_states_after_the_norm_and_takes_no_mask(tmp_path):
    torch.manual_seed(0)
    model = clip().eval()
    states = PretrainedStates(saved(tmp_path / "clip", model), 9)
    out = states(["a red star", "disc"])
    assert out.shape == (2, 9, 24) and states.dim == 24 and states.reads_forward
    ids = torch.tensor([[2, 3, 4, *[0] * 6], [5, *[0] * 8]])
    with torch.no_grad():
        want = model.text_model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)
    norm = model.text_model.final_layer_norm
    spread = ((out - norm.bias) / norm.weight).std(-1, unbiased=False)
    torch.testing.assert_close(spread, torch.ones(2, 9), rtol=1e-2, atol=1e-2)
    assert not any(p.requires_grad for p in states.parameters())


@pytest.mark.parametrize(("make", "dim"), [(t5, 16), (bert, 20)])
def test_encoders_that_read_both_ways_do_not_read_the_padding(tmp_path, make, dim):
    torch.manual_seed(0)
    name = saved(tmp_path / "encoder", make().eval())
    long, short = PretrainedStates(name, 8), PretrainedStates(name, 3)
    assert long.dim == dim and not long.reads_forward
    a, b = long(["a red star"]), short(["a red star"])
    assert a.shape == (1, 8, dim)
    torch.testing.assert_close(a[:, :3], b, rtol=1e-4, atol=1e-5)


def test_names(tmp_path):
    assert isinstance(text_states(OFFLINE, 6, 4, ("a", "b")), WordStates)
    name = saved(tmp_path / "bert", bert())
    assert text_states(name, 20, 4, ()).dim == 20
    with pytest.raises(ValueError, match="has 20 channels, 24 are wanted"):
        text_states(name, 24, 4, ())
    with pytest.raises(FileNotFoundError, match="text encoder .*absent"):
        PretrainedStates(str(tmp_path / "absent"), 4)
    with pytest.raises(ValueError, match="named by the checkpoint alone"):
        PretrainedStates(Foreign(name), 4)
