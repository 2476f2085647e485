"""The causal transformer: who sees whom, the cache, parity with GPT-2 and Llama."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gentok.nn.causal_transformer import CausalTransformer
from gentok.nn.gpt import Gpt
from gentok.nn.gpt_block import FixedKVCache, Geglu, GptConfig
from gentok.nn.rope import Rope, turn_pairs


def randomise(model: nn.Module) -> None:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)


def small(**changes) -> GptConfig:
    sizes = {"vocabulary": 11, "length": 9, "dim": 16, "num_layers": 2, "num_heads": 2}
    return GptConfig(**{**sizes, **changes})


def trunk(blocks=None, attend=None, **changes) -> CausalTransformer:
    torch.manual_seed(0)
    model = CausalTransformer(small(**changes), blocks, attend).eval()
    randomise(model)
    return model


VARIANTS = [
    {},
    {"positions": "sincos", "mlp": "geglu", "qkv_bias": False, "layer_scale": 0.1},
    {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "hidden": 24},
    {"positions": "none"},
]


def test_gpt2_of_transformers_with_the_same_weights():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    peer = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=11, n_positions=9, n_embd=16, n_layer=2, n_head=2, activation_function="gelu"
        )
    ).eval()
    randomise(peer)
    ours = Gpt(small(tie=True)).eval()
    ours.embedding.weight.data = peer.transformer.wte.weight.data
    ours.head.linear.weight = ours.embedding.weight
    ours.trunk.position.data = peer.transformer.wpe.weight.data
    ours.trunk.norm.load_state_dict(peer.transformer.ln_f.state_dict())
    for block, theirs in zip(ours.trunk.blocks, peer.transformer.h, strict=True):
        block.norm1.load_state_dict(theirs.ln_1.state_dict())
        block.norm2.load_state_dict(theirs.ln_2.state_dict())
        pairs = [
            (block.attention.qkv, theirs.attn.c_attn),
            (block.attention.proj, theirs.attn.c_proj),
            (block.mlp.fc1, theirs.mlp.c_fc),
            (block.mlp.fc2, theirs.mlp.c_proj),
        ]
        for linear, conv in pairs:  # GPT-2 stores its linear layers transposed
            linear.weight.data, linear.bias.data = conv.weight.data.T, conv.bias.data
    tokens = torch.randint(11, (3, 9))
    assert torch.allclose(ours(tokens), peer(tokens).logits, atol=1e-4)
    assert torch.allclose(ours.loss({"tokens": tokens})[0], peer(tokens, labels=tokens).loss)


def test_llama_of_transformers_with_the_same_weights():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    peer = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=11, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=9, rms_norm_eps=1e-6,
        )
    ).eval()  # fmt: skip
    randomise(peer)
    config = small(positions="rotary", norm="rms", mlp="swiglu", hidden=24, qkv_bias=False)
    ours = Gpt(config).eval()
    # Llama turns channel i with i + 4; here neighbours turn. The same function, channels permuted.
    order = torch.arange(8).view(2, 4).T.flatten()
    order = torch.cat([order, order + 8])  # two heads
    ours.embedding.load_state_dict(peer.model.embed_tokens.state_dict())
    ours.head.linear.load_state_dict(peer.lm_head.state_dict())
    ours.trunk.norm.load_state_dict(peer.model.norm.state_dict())
    for block, theirs in zip(ours.trunk.blocks, peer.model.layers, strict=True):
        block.norm1.load_state_dict(theirs.input_layernorm.state_dict())
        block.norm2.load_state_dict(theirs.post_attention_layernorm.state_dict())
        attn, mlp = theirs.self_attn, theirs.mlp
        block.attention.qkv.weight.data = torch.cat(
            [attn.q_proj.weight[order], attn.k_proj.weight[order], attn.v_proj.weight]
        )
        block.attention.proj.weight.data = attn.o_proj.weight.data
        block.mlp.w12.weight.data = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        block.mlp.w3.weight.data = mlp.down_proj.weight.data
        for linear in (block.attention.proj, block.mlp.w12, block.mlp.w3):
            nn.init.zeros_(linear.bias)
    tokens = torch.randint(11, (3, 9))
    assert torch.allclose(ours(tokens), peer(tokens).logits, atol=1e-4)


def test_parameters_of_the_published_image_transformer():
    # Scene-graph paper's image transformer, counted from its official code: 339,159,744.
    config = GptConfig(vocabulary=8192, length=348, dim=1056, num_layers=24, num_heads=12)
    with torch.device("meta"):
        model = Gpt(config)
    assert sum(p.numel() for p in model.parameters()) == 339_159_744


@pytest.mark.parametrize("blocks", [None, (4, 1, 1, 1, 1, 1), (1, 3, 5), (2, 2, 5)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_exactly_the_own_and_earlier_blocks_are_seen(blocks, variant):
    model, x = trunk(blocks, **variant), torch.randn(1, 9, 16, requires_grad=True)
    sizes = blocks or (1,) * 9
    ends = [sum(sizes[: i + 1]) for i, size in enumerate(sizes) for _ in range(size)]
    out = model(x)
    for place in range(9):
        (gradient,) = torch.autograd.grad(out[0, place].square().sum(), x, retain_graph=True)
        reach, end = gradient[0].abs().sum(-1), ends[place]
        assert (reach[:end] > 0).all(), f"place {place} does not see all of its past"
        assert (reach[end:] == 0).all(), f"place {place} sees the future"


@pytest.mark.parametrize("blocks", [None, (4, 1, 1, 1, 1, 1), (1, 3, 5)])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("padded", [False, True])
def test_cached_pieces_equal_one_pass(blocks, variant, padded):
    model, x = trunk(blocks, **variant), torch.randn(2, 9, 16)
    keys = torch.tensor([[True, False], [True, True]]) if padded else None
    cache, cuts = model.new_cache(), blocks or (3, 1, 1, 4)
    pieces = [model(piece, cache, keys) for piece in x.split(cuts, dim=1)]
    assert torch.allclose(torch.cat(pieces, 1), model(x, keys=keys), atol=1e-5)
    assert len(cache[0]) == 9


def test_padding_is_read_by_nobody_else():
    model, x = trunk(), torch.randn(1, 9, 16, requires_grad=True)
    keys = torch.tensor([[False, True, False]])
    out = model(x, keys=keys)
    assert out.isfinite().all()
    for place in range(9):
        (gradient,) = torch.autograd.grad(out[0, place].square().sum(), x, retain_graph=True)
        seen = gradient[0].abs().sum(-1) > 0
        expected = [p <= place and (p not in (0, 2) or p == place) for p in range(9)]
        assert seen.tolist() == expected


def test_own_attention_takes_the_kernels_place():
    def explicit(q, k, v, visible):
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~visible, -torch.inf)
        return scores.softmax(-1) @ v

    x = torch.randn(2, 9, 16)
    assert torch.allclose(trunk(attend=explicit)(x), trunk()(x), atol=1e-5)


def test_rotation_is_that_of_rope():
    # (B, N, heads, d), as the fused projection has it
    x, rope = torch.randn(2, 5, 3, 8), Rope((8,))
    angles = rope.angles(torch.arange(5)[:, None]).float()
    turn = torch.stack([angles.cos(), angles.sin()], dim=-1)
    ours = turn_pairs(x, turn[:, None])  # heads stand behind the places
    assert torch.allclose(ours, rope(x.transpose(1, 2), torch.arange(5)).transpose(1, 2), atol=1e-6)


def test_geglu_is_first_half_times_gelu_of_the_second():
    layer, x = Geglu(4, 3), torch.randn(2, 4)
    both = F.linear(x, layer.fc1.weight, layer.fc1.bias)
    assert torch.allclose(layer(x), layer.fc2(both[:, :3] * F.gelu(both[:, 3:])))


def test_layer_scale_zero_is_the_identity_up_to_the_last_norm():
    model, x = CausalTransformer(small(layer_scale=0.0, positions="none")), torch.randn(2, 9, 16)
    assert torch.equal(model(x), model.norm(x))


def test_dropout_acts_in_training_only():
    model, x = trunk(dropout=0.5), torch.randn(1, 9, 16)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_fixed_cache_forgets_and_says_when_it_is_full():
    cache, part = FixedKVCache(4), torch.randn(1, 2, 3, 8)
    keys, values = cache.append(part, part + 1)
    assert torch.equal(keys, part) and torch.equal(values, part + 1)
    cache.truncate(1)
    new = torch.randn(1, 2, 2, 8)
    keys, _ = cache.append(new, new)
    assert torch.equal(keys, torch.cat([part[:, :, :1], new], 2))
    with pytest.raises(ValueError, match="at most 4 places, got 5"):
        cache.append(new, new)
    with pytest.raises(ValueError, match=r"\[0, 3\], got 4"):
        cache.truncate(4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "num_heads must divide dim"),
        ({"dim": 6, "num_heads": 2, "positions": "rotary"}, "even part"),
        ({"prefix": 9}, r"prefix must lie in \[0, 9\)"),
        ({"positions": "alibi"}, "positions must be one of"),
        ({"norm": "batch"}, "norm must be one of"),
        ({"mlp": "relu"}, "mlp must be one of"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_bad_inputs_are_named():
    with pytest.raises(ValueError, match="blocks must add up to length=9"):
        CausalTransformer(small(), (4, 4))
    with pytest.raises(ValueError, match="fit into 9 places, got 10"):
        trunk()(torch.randn(1, 10, 16))
    with pytest.raises(ValueError, match="where a block ends, at 4 places, got 2"):
        trunk((1, 3, 5))(torch.randn(1, 2, 16))
