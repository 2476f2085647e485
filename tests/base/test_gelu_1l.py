"""gelu-1l: a checkpoint in TransformerLens's format, against GPT-2 of transformers."""

import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gentok.base.gelu_1l import WEIGHTS_FILE, Gelu1L, Gelu1LConfig, load
from gentok.base.language_model import losses, residual_stream
from gentok.interpret.vsae.corpus import byte_tokenizer
from gentok.measure import count_parameters

SIZES = Gelu1LConfig(d_vocab=40, d_model=24, n_heads=3, d_head=8, d_mlp=50, n_ctx=16)


@pytest.fixture
def state():
    """A state dictionary as the hub's file has it, written down without the class under test."""
    noise = torch.Generator().manual_seed(0)
    d, h, e, m, v = 24, 3, 8, 50, 40
    shapes = {
        "embed.W_E": (v, d),
        "pos_embed.W_pos": (16, d),
        "ln_final.w": (d,),
        "ln_final.b": (d,),
        "unembed.W_U": (d, v),
        "unembed.b_U": (v,),
        **{f"blocks.0.ln{i}.{name}": (d,) for i in (1, 2) for name in "wb"},
        **{f"blocks.0.attn.W_{name}": (h, d, e) for name in "QKV"},
        **{f"blocks.0.attn.b_{name}": (h, e) for name in "QKV"},
        "blocks.0.attn.W_O": (h, e, d),
        "blocks.0.attn.b_O": (d,),
        "blocks.0.mlp.W_in": (d, m),
        "blocks.0.mlp.b_in": (m,),
        "blocks.0.mlp.W_out": (m, d),
        "blocks.0.mlp.b_out": (d,),
    }
    found = {name: 0.4 * torch.randn(shape, generator=noise) for name, shape in shapes.items()}
    found["blocks.0.attn.mask"] = torch.tril(torch.ones(16, 16)).bool()
    found["blocks.0.attn.IGNORE"] = torch.tensor(-1e5)
    return found


@pytest.fixture
def folder(state, tmp_path):
    torch.save(state, tmp_path / WEIGHTS_FILE)
    stated = {**vars(SIZES), "act_fn": "gelu", "normalization_type": "LN", "attn_only": False}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    return tmp_path


def gpt2(state) -> GPT2LMHeadModel:
    """The same function in another layout: one matrix for q, k, v, and no bias on the logits."""
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=40, n_positions=16, n_embd=24, n_layer=1, n_head=3, n_inner=50,
            activation_function="gelu", tie_word_embeddings=False,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip
    block, attn = "transformer.h.0.", "blocks.0.attn."

    def joined(name):  # (H, D, d) -> (D, H d)
        return state[f"{attn}W_{name}"].permute(1, 0, 2).flatten(1)

    weights = {
        "transformer.wte.weight": state["embed.W_E"],
        "transformer.wpe.weight": state["pos_embed.W_pos"],
        "transformer.ln_f.weight": state["ln_final.w"],
        "transformer.ln_f.bias": state["ln_final.b"],
        "lm_head.weight": state["unembed.W_U"].T,
        f"{block}attn.c_attn.weight": torch.cat([joined(name) for name in "QKV"], 1),
        f"{block}attn.c_attn.bias": torch.cat([state[f"{attn}b_{n}"].flatten() for n in "QKV"]),
        f"{block}attn.c_proj.weight": state[f"{attn}W_O"].flatten(0, 1),
        f"{block}attn.c_proj.bias": state[f"{attn}b_O"],
        f"{block}mlp.c_fc.weight": state["blocks.0.mlp.W_in"],
        f"{block}mlp.c_fc.bias": state["blocks.0.mlp.b_in"],
        f"{block}mlp.c_proj.weight": state["blocks.0.mlp.W_out"],
        f"{block}mlp.c_proj.bias": state["blocks.0.mlp.b_out"],
    }
    for i in (1, 2):
        weights[f"{block}ln_{i}.weight"] = state[f"blocks.0.ln{i}.w"]
        weights[f"{block}ln_{i}.bias"] = state[f"blocks.0.ln{i}.b"]
    left = model.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys and all("attn." in name for name in left.missing_keys)
    return model.eval()


def test_a_checkpoint_of_the_format_gives_gpt2s_numbers(folder, state):
    model, other = load(folder), gpt2(state)
    tokens = torch.randint(40, (3, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = other(input_ids=tokens, output_hidden_states=True)
        torch.testing.assert_close(
            model(tokens), theirs.logits + state["unembed.b_U"], rtol=1e-4, atol=1e-4
        )
        by_hand = other.transformer.h[0](theirs.hidden_states[0])
    by_hand = by_hand[0] if isinstance(by_hand, tuple) else by_hand
    stream = residual_stream(model, tokens, 0, batch_size=2)
    torch.testing.assert_close(stream, by_hand, rtol=1e-4, atol=1e-4)


def test_the_stream_can_be_replaced(folder):
    model = load(folder)
    tokens = torch.randint(40, (4, 10))
    plain = losses(model, tokens, 0)
    assert torch.equal(losses(model, tokens, 0, lambda stream: stream.clone()), plain)
    assert not torch.allclose(losses(model, tokens, 0, torch.zeros_like), plain)


def test_published_sizes():
    with torch.device("meta"):
        model = Gelu1L(Gelu1LConfig())
    layer = 4 * 512 * 512 + 4 * 512 + 2 * 512 * 2048 + 2048 + 512 + 4 * 512
    assert count_parameters(model.blocks) == layer == 3_152_384
    ends = 2 * 48_262 * 512 + 48_262 + 1024 * 512 + 2 * 512
    assert count_parameters(model) == layer + ends


def test_it_trains_from_its_own_start():
    torch.manual_seed(0)
    model = Gelu1L(SIZES)
    loss, _ = model.loss({"tokens": torch.randint(40, (8, 16))})
    assert abs(float(loss) - torch.tensor(40.0).log()) < 0.1, "near uniform at first"
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_tokenizer_beside_the_weights_is_found(folder):
    assert load(folder).tokenizer is None
    byte_tokenizer().save_pretrained(str(folder))
    assert load(folder).tokenizer("ab").input_ids == byte_tokenizer()("ab").input_ids


def test_what_cannot_be_loaded_is_one_plain_error(folder, state, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        load(tmp_path_factory.mktemp("empty"))
    with pytest.raises(FileNotFoundError, match="pass a folder"):
        load("nobody/nothing")
    del state["unembed.b_U"]
    torch.save(state, folder / WEIGHTS_FILE)
    with pytest.raises(ValueError, match="do not fit"):
        load(folder)
    (folder / "config.json").write_text(json.dumps({"act_fn": "solu_ln"}))
    with pytest.raises(ValueError, match="'solu_ln', None"):
        load(folder)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000),
        *({"n_layers": 10**9}, {"d_vocab": 10**18}, {"d_model": -1}, {"n_heads": "3"}),
        *({"d_mlp": 50.5}, {"n_ctx": True}, {"d_head": None}, {"act_fn": ["gelu"]}),
    ],
)
def test_a_configuration_that_is_none_is_named(folder, content):
    """Sizes are held against the weights before memory is taken for them."""
    path = folder / "config.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content).encode()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json|has activation and norm") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_weights_that_are_none_are_named(folder, state):
    path = folder / WEIGHTS_FILE
    whole = path.read_bytes()
    nan = state | {"unembed.b_U": torch.full((40,), torch.nan)}
    for content in (b"", whole[:99], whole[:-50], b"\x80\x02N.", {"a": 1}, [1], {}, nan):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(ValueError, match=WEIGHTS_FILE) as caught:
            load(folder)
        assert "\n" not in str(caught.value)


def test_a_tokenizer_that_is_damaged_is_named(folder):
    byte_tokenizer().save_pretrained(str(folder))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        load(folder)
