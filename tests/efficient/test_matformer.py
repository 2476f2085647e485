"""MatFormer: nesting, extraction, the two objectives, mixtures, drafts and retrieval."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentok.efficient import matformer
from gentok.efficient.matformer import elastic
from gentok.efficient.matformer.decoding import predictor, write
from gentok.efficient.matformer.nested import NestedFeedForward, NestedGated
from gentok.measure import count_flops, count_parameters
from gentok.nn.blocks import PreNormBlock
from gentok.nn.causal import CausalSelfAttention, KVCache
from gentok.nn.rope import Rope
from gentok.nn.transformer import Mlp, SwiGLU

PRESETS = matformer.PRESETS
LM = replace(PRESETS["tiny"], dim=32, hidden=64, context=32)
VIT = replace(PRESETS["tiny-vit"], dim=32, hidden=64, depth=3, image_size=16)
MIXED = ("S", "XL", "M", "L")


def lm(seed=0, config=LM):
    """A network whose biases and norms are not at their trivial start."""
    torch.manual_seed(seed)
    network = matformer.build(config).eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 or "embedding" in name:
            nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.3)
        if "down.weight" in name:
            parameter.data *= 4  # so that granularities differ
    return network


def tokens(batch=2, length=20, seed=5, vocab=96):
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


# --- nested layers --------------------------------------------------------------------------------


@given(st.integers(1, 24), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_nested_layer_is_the_dense_layer_of_its_prefix(width, seed):
    """Oracle: the library's plain MLP, filled by hand with the sliced weights."""
    torch.manual_seed(seed)
    layer, x = NestedFeedForward(8, 24), torch.randn(3, 8)
    dense = Mlp(8, width, approximate="none")
    dense.fc1.weight.data = layer.up.weight.data[:width].clone()
    dense.fc1.bias.data = layer.up.bias.data[:width].clone()
    dense.fc2.weight.data = layer.down.weight.data[:, :width].clone()
    dense.fc2.bias.data = layer.down.bias.data.clone()
    torch.testing.assert_close(layer(x, width), dense(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.extract(width)(x), dense(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [1, 6, 24])
def test_nested_gated_layer_is_the_dense_layer_of_its_prefix(width):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    torch.manual_seed(0)
    layer, x = NestedGated(8, 24, bias=True), torch.randn(3, 8)
    dense = SwiGLU(8, width)
    dense.w12.weight.data = torch.cat([layer.gate.weight[:width], layer.up.weight[:width]]).data
    dense.w12.bias.data = torch.cat([layer.gate.bias[:width], layer.up.bias[:width]]).data
    dense.w3.weight.data = layer.down.weight.data[:, :width]
    dense.w3.bias.data = layer.down.bias.data
    torch.testing.assert_close(layer(x, width), dense(x), rtol=1e-5, atol=1e-6)
    plain = NestedGated(8, 24)
    sizes = {"hidden_size": 8, "intermediate_size": width, "num_attention_heads": 2}
    llama = LlamaMLP(LlamaConfig(**sizes, hidden_act="silu"))
    names = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
    for theirs, ours in names.items():
        extracted = getattr(plain.extract(width), ours).weight.data
        getattr(llama, theirs).weight.data = extracted.clone()
    torch.testing.assert_close(plain(x, width), llama(x), rtol=1e-5, atol=1e-6)
    wrong = plain.down(F.silu(plain.gate(x) * plain.up(x)))  # the public reproduction's order
    assert not torch.allclose(wrong, plain(x), atol=1e-3)


@pytest.mark.parametrize("activation", ["gelu", "squared_relu"])
def test_masking_before_the_activation_equals_slicing(activation):
    torch.manual_seed(0)
    layer, x = NestedFeedForward(8, 24, activation=activation), torch.randn(3, 8)
    keep = (torch.arange(24) < 6).float()
    torch.testing.assert_close(layer.masked(x, keep), layer(x, 6), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.masked(x, torch.ones(24)), layer(x))
    assert not torch.allclose(layer(x, 6), layer(x, 12), atol=1e-3), "the width changes nothing"


def test_masking_is_not_exact_where_the_activation_of_zero_is_not_zero(monkeypatch):
    from gentok.efficient.matformer import nested

    monkeypatch.setitem(nested.ACTIVATIONS, "sigmoid", torch.sigmoid)
    torch.manual_seed(0)
    layer, x = NestedFeedForward(8, 24, activation="sigmoid"), torch.randn(3, 8)
    keep = (torch.arange(24) < 6).float()
    assert not torch.allclose(layer.masked(x, keep), layer(x, 6), atol=1e-3)


def test_block_is_the_books_block_with_the_sliced_layer():
    """Oracle: `PreNormBlock` around a plain MLP with the same weights."""
    torch.manual_seed(0)
    rope = Rope((8,), interleaved=False)
    ours = matformer.Block(16, CausalSelfAttention(16, 2, rope=rope), NestedFeedForward(16, 24))
    plain = PreNormBlock(16, ours.attention, Mlp(16, 6, approximate="none"))
    for norm in (ours.norm1, ours.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    plain.norm1, plain.norm2 = ours.norm1, ours.norm2
    cut = ours.mlp.extract(6)
    plain.mlp.fc1.load_state_dict(cut.up.state_dict())
    plain.mlp.fc2.load_state_dict(cut.down.state_dict())
    x, caches = torch.randn(2, 9, 16), (KVCache(), KVCache())
    torch.testing.assert_close(ours(x, 6), plain(x))
    for part in x.split([4, 1, 4], dim=1):
        torch.testing.assert_close(ours(part, 6, caches[0]), plain(part, caches[1]))
    assert not torch.allclose(ours(x), plain(x), atol=1e-2), "the width changes nothing"


# --- submodels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["S", "M", "L", "XL"])
def test_submodel_equals_a_gpt_neox_with_sliced_weights(name):
    """Oracle: transformers' GPT-NeoX with a feed-forward layer of m neurons: same weights."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    network, x = lm(), tokens()
    (m, *_) = LM.widths(name)
    theirs = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=96,
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=m,
            hidden_act="gelu",
            rotary_pct=1.0,
            use_parallel_residual=False,
            tie_word_embeddings=True,
            max_position_embeddings=32,
            layer_norm_eps=1e-5,
        )
    ).eval()
    state = {"embed_in": network.embedding, "final_layer_norm": network.norm}
    for i, block in enumerate(network.blocks):
        qkv = block.attention.qkv  # theirs keeps q, k, v of one head together
        weight = qkv.weight.view(3, 4, 8, 32).transpose(0, 1).reshape(96, 32)
        bias = qkv.bias.view(3, 4, 8).transpose(0, 1).reshape(96)
        layer = theirs.gpt_neox.layers[i]
        layer.attention.query_key_value.load_state_dict({"weight": weight, "bias": bias})
        up, down = block.mlp.up, block.mlp.down
        layer.mlp.dense_h_to_4h.load_state_dict({"weight": up.weight[:m], "bias": up.bias[:m]})
        layer.mlp.dense_4h_to_h.load_state_dict({"weight": down.weight[:, :m], "bias": down.bias})
        state[f"layers.{i}.attention.dense"] = block.attention.proj
        state[f"layers.{i}.input_layernorm"] = block.norm1
        state[f"layers.{i}.post_attention_layernorm"] = block.norm2
    for path, module in state.items():
        theirs.gpt_neox.get_submodule(path).load_state_dict(module.state_dict())
    theirs.tie_weights()
    with torch.no_grad():
        expected = theirs(x).logits
        torch.testing.assert_close(network(x, name), expected, rtol=1e-4, atol=1e-4)
        extracted = matformer.extract(network, name)
        torch.testing.assert_close(extracted(x), expected, rtol=1e-4, atol=1e-4)
    assert count_parameters(extracted) == count_parameters(theirs)


def test_mixed_submodel_of_the_vit_equals_torchs_own_layers():
    """Oracle: nn.TransformerEncoderLayer with another hidden size in each layer."""
    torch.manual_seed(0)
    network, images = matformer.build(VIT).eval(), torch.randn(2, 3, 16, 16)
    mixture = ("S", "L", "M")
    x = network.patches(images).flatten(2).mT
    x = torch.cat([network.class_token.expand(2, -1, -1), x], 1) + network.position
    for block, m in zip(network.blocks, VIT.widths(mixture), strict=True):
        layer = nn.TransformerEncoderLayer(
            32, 4, m, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        ).eval()
        layer.self_attn.in_proj_weight.data = block.attention.qkv.weight.data
        layer.self_attn.in_proj_bias.data = block.attention.qkv.bias.data
        layer.self_attn.out_proj.load_state_dict(block.attention.proj.state_dict())
        feed = block.mlp
        layer.linear1.load_state_dict({"weight": feed.up.weight[:m], "bias": feed.up.bias[:m]})
        layer.linear2.load_state_dict({"weight": feed.down.weight[:, :m], "bias": feed.down.bias})
        layer.norm1.load_state_dict(block.norm1.state_dict())
        layer.norm2.load_state_dict(block.norm2.state_dict())
        x = layer(x)
    expected = network.head(network.norm(x)[:, 0])
    torch.testing.assert_close(network(images, mixture), expected, rtol=1e-4, atol=1e-5)
    extracted = matformer.extract(network, mixture)
    torch.testing.assert_close(extracted(images), expected, rtol=1e-4, atol=1e-5)
    assert extracted.config.layer_widths == VIT.widths(mixture)


@pytest.mark.parametrize("submodel", [None, "S", MIXED])
def test_extraction_is_exact_and_copies(submodel):
    network, x = lm().double(), tokens()
    small = matformer.extract(network, submodel)
    before = network(x, submodel)
    torch.testing.assert_close(small(x), before, rtol=0, atol=1e-12)
    blocks = sum(count_parameters(block) for block in small.blocks)
    assert blocks == elastic.block_params(LM, submodel)
    for parameter in small.parameters():
        parameter.data.zero_()
    assert torch.equal(network(x, submodel), before), "the extract shares memory"


def test_extract_survives_a_checkpoint(tmp_path):
    from gentok.training.checkpoint import save
    from gentok.training.configs import config_of
    from gentok.training.loading import load_model

    small = matformer.extract(lm(), MIXED)
    tensors = {f"model.{name}": value for name, value in small.state_dict().items()}
    save(tmp_path / "a.safetensors", tensors, {"config": config_of(small)})
    again = load_model(tmp_path / "a.safetensors", matformer.MatLMConfig, matformer.build)
    assert again.config == small.config
    torch.testing.assert_close(again(tokens()), small(tokens()))


def test_small_submodels_do_not_read_the_other_neurons():
    network, x = lm(), tokens()
    small, large = network(x, "S"), network(x)
    for block in network.blocks:
        block.mlp.up.weight.data[8:] = torch.nan
        block.mlp.up.bias.data[8:] = torch.nan
        block.mlp.down.weight.data[:, 8:] = torch.nan
    assert torch.equal(network(x, "S"), small)
    assert network(x).isnan().all() and not torch.allclose(large, small, atol=1e-2)


def test_causality_and_cache():
    network, x = lm(), tokens(1, 24)
    whole = network(x, MIXED)
    changed = x.clone()
    changed[0, 15:] = (changed[0, 15:] + 1) % 96
    torch.testing.assert_close(network(changed, MIXED)[:, :15], whole[:, :15])
    caches = [KVCache() for _ in network.blocks]
    pieces = [network(part, MIXED, caches) for part in x.split([5, 1, 18], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-4, atol=1e-4)


# --- objectives -----------------------------------------------------------------------------------


def test_joint_loss_is_the_mean_of_the_granularities():
    network = lm(config=replace(LM, objective="joint")).train()
    batch = {"tokens": tokens()}
    total, parts = network.loss(batch)
    single = torch.stack([network.cross_entropy(batch, name) for name in LM.names])
    torch.testing.assert_close(total, single.mean())
    assert list(parts) == ["S", "M", "L", "XL"]
    torch.testing.assert_close(torch.stack(list(parts.values())), single)


def test_sampling_trains_one_granularity_a_step():
    network, batch = lm().train(), {"tokens": tokens()}
    for step in range(8):
        total, parts = network.loss(batch, step)
        name = LM.names[int(parts["granularity"])]
        torch.testing.assert_close(total, network.cross_entropy(batch, name))
    drawn = [network.granularity(step) for step in range(4000)]
    assert drawn == [network.granularity(step) for step in range(4000)]
    shares = torch.bincount(torch.tensor(drawn)) / 4000
    assert (shares - 0.25).abs().max() < 0.03
    tuned = lm(config=replace(LM, probabilities=(0.44, 0.31, 0.15, 0.10)))
    shares = torch.bincount(torch.tensor([tuned.granularity(step) for step in range(4000)])) / 4000
    assert (shares - torch.tensor(tuned.config.probabilities)).abs().max() < 0.03
    other = lm(config=replace(LM, draw_seed=1))
    assert drawn[:50] != [other.granularity(step) for step in range(50)]


def test_unused_neurons_get_zero_gradients_not_none():
    network = lm().train()
    network.cross_entropy({"tokens": tokens()}, "S").backward()
    for block in network.blocks:
        up, down = block.mlp.up, block.mlp.down
        for grad in (up.weight.grad, up.bias.grad, down.weight.grad.mT):
            assert grad[:8].any() and not grad[8:].any()
        assert down.bias.grad.all(), "the second bias is shared by all widths"


def test_the_expectation_of_sampling_is_the_joint_gradient():
    network, batch = lm().double(), {"tokens": tokens()}
    grads = []
    for name in LM.names:
        network.zero_grad()
        network.cross_entropy(batch, name).backward()
        grads.append([p.grad.clone() for p in network.parameters()])
    joint = matformer.build(replace(LM, objective="joint")).double()
    joint.load_state_dict(network.state_dict())
    joint.loss(batch)[0].backward()
    for p, *each in zip(joint.parameters(), *grads, strict=True):
        torch.testing.assert_close(p.grad, sum(each) / 4)


@pytest.mark.parametrize("config", [LM, replace(LM, gated=True), VIT])
def test_every_parameter_learns(config):
    torch.manual_seed(0)
    network = matformer.build(replace(config, objective="joint")).train()
    if isinstance(config, matformer.MatViTConfig):
        batch = {"image": torch.randn(4, 3, 16, 16), "label": torch.arange(4)}
    else:
        batch = {"tokens": tokens()}
    network.loss(batch)[0].backward()
    assert [n for n, p in network.named_parameters() if not p.grad.any()] == []


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["sampling", "joint"])
def test_all_granularities_overfit_one_batch(objective):
    torch.manual_seed(0)
    network = matformer.build(replace(LM, objective=objective)).train()
    batch = {"tokens": tokens(4, 12)}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(240 if objective == "sampling" else 80):
        optimizer.zero_grad()
        network.loss(batch, step)[0].backward()
        optimizer.step()
    for name in LM.names:
        assert network.cross_entropy(batch, name).item() < 1.0, name  # from log 96 = 4.6


def test_stochastic_depth_rises_and_acts_in_training_only():
    torch.manual_seed(0)
    network = matformer.build(replace(VIT, stochastic_depth=0.2, dropout=0.1))
    assert [block.drop_path.rate for block in network.blocks] == [0.0, 0.1, 0.2]
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(network.eval()(images), network(images)), "noise in eval mode"
    assert not torch.equal(network.train()(images), network(images))


# --- published sizes ------------------------------------------------------------------------------


PUBLISHED = [name for name in PRESETS if PRESETS[name].published_params]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name):
    config = PRESETS[name]
    with torch.device("meta"):
        network = matformer.build(config)
    count = count_parameters(network)
    if name.startswith("matvit"):
        assert count == config.published_params
    else:  # the paper prints two or three digits
        assert count == pytest.approx(config.published_params, rel=0.01)
    blocks = [sum(p.numel() for b in network.blocks for p in b.parameters())]
    assert blocks == [elastic.block_params(config)]


@pytest.mark.parametrize("name", [n for n in PRESETS if PRESETS[n].published_blocks])
def test_published_counts_of_the_blocks(name):
    """Within 1.5 %: the paper cuts some of its two-digit numbers (56.6 to 56) and rounds others."""
    config = PRESETS[name]
    for granularity, published in zip(config.names, config.published_blocks, strict=True):
        assert elastic.block_params(config, granularity) == pytest.approx(published, rel=0.015)


def test_vit_counts_as_transformers_does():
    from transformers import ViTConfig, ViTForImageClassification

    with torch.device("meta"):
        theirs = ViTForImageClassification(ViTConfig(num_labels=1000, intermediate_size=384))
        ours = matformer.build(matformer.submodel_config(PRESETS["matvit-b16"], "S"))
    assert count_parameters(ours) == count_parameters(theirs)


@pytest.mark.parametrize("config", [LM, VIT, replace(LM, gated=True)])
@pytest.mark.parametrize("objective", ["sampling", "joint"])
def test_loss_runs_on_the_meta_device(config, objective):
    with torch.device("meta"):
        network = matformer.build(replace(config, objective=objective))
        total, _ = network.loss(matformer.example(config, 2))
    assert total.is_meta and total.shape == ()


@pytest.mark.parametrize("submodel", [None, "S", MIXED])
def test_cost_formula_equals_the_counter(submodel):
    with torch.device("meta"):
        network = matformer.build(LM)
    n, head = 20, 20 * 32 * 96
    flops = count_flops(network, tokens(1, n).to("meta"), submodel)
    assert flops // 2 == elastic.block_macs(LM, submodel, n) + head


# --- mixtures -------------------------------------------------------------------------------------


def test_tree_evaluation_equals_one_by_one():
    config = replace(LM, depth=3)
    network, x = lm(config=config), tokens(2, 10)
    losses = elastic.every_loss(network, x)
    assert losses.shape == (4, 4, 4)
    mixtures = elastic.every_mixture(config)
    for index in (0, 7, 27, 38, 63):
        expected = network.cross_entropy({"tokens": x}, mixtures[index])
        torch.testing.assert_close(losses.flatten()[index], expected, rtol=1e-4, atol=1e-5)


def test_two_level_mixtures_rise_once():
    everything = elastic.two_level(LM)
    assert len(everything) == 4 + 6 * 3 == len(set(everything))
    order = {name: i for i, name in enumerate(LM.names)}
    for mixture in everything:
        steps = [order[b] - order[a] for a, b in zip(mixture, mixture[1:], strict=False)]
        assert min(steps) >= 0 and sum(s > 0 for s in steps) <= 1
    adjacent = elastic.two_level(LM, adjacent=True)
    assert len(adjacent) == 4 + 3 * 3 and set(adjacent) < set(everything)
    assert ("M", "M", "L", "L") in adjacent and ("S", "S", "XL", "XL") not in adjacent


def test_the_chord_is_a_line_over_parameters():
    loss_of = {(name,) * 4: loss for name, loss in zip(LM.names, (4.0, 3.0, 2.0, 1.0), strict=True)}
    half = ("S", "S", "L", "L")  # 8, 8, 32, 32 neurons: halfway from 8 to 32
    assert elastic.on_chord(LM, half, loss_of) == pytest.approx(3.0)
    assert elastic.on_chord(LM, half[::-1], loss_of) == pytest.approx(3.0)
    assert elastic.on_chord(LM, ("M", "M", "M", "L"), loss_of) == pytest.approx(2.75)
    # Not halfway between M and XL: 16, 32, 64, 64 neurons are 44 on average, of 16 to 64.
    late = elastic.on_chord(LM, ("M", "L", "XL", "XL"), loss_of)
    assert late == pytest.approx(3.0 - 2 * 28 / 48)
    with pytest.raises(ValueError, match="two granularities"):
        elastic.on_chord(LM, ("M",) * 4, loss_of)


@given(st.integers(elastic.block_params(LM, "S"), 2 * elastic.block_params(LM)))
@settings(max_examples=30, deadline=None)
def test_least_slope_uses_the_budget(budget):
    best = elastic.least_slope(LM, budget)
    assert elastic.block_params(LM, best) <= budget
    for other in elastic.two_level(LM, adjacent=True):
        if elastic.block_params(LM, other) > elastic.block_params(LM, best):
            assert elastic.block_params(LM, other) > budget


# --- agreement, drafts, retrieval -----------------------------------------------------------------


def test_consistency_by_hand():
    reference = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]).log()
    small = torch.tensor([[0.6, 0.3, 0.1], [0.25, 0.5, 0.25]]).log()
    found = elastic.consistency(small, reference)
    assert found["agreement"] == 0.5
    assert found["overlap"] == pytest.approx((0.9 + 0.75) / 2)
    first = 0.6 * torch.tensor(0.6 / 0.7).log() + 0.3 * torch.tensor(1.5).log()
    second = 0.25 * torch.tensor(0.5).log() + 0.5 * torch.tensor(2.0).log()
    assert found["kl"] == pytest.approx(float(first + second) / 2, abs=1e-6)
    same = elastic.consistency(reference, reference)
    assert same["agreement"] == 1 and abs(same["kl"]) < 1e-6


@pytest.mark.parametrize("shared", [True, False])
def test_greedy_drafts_write_the_large_models_text(shared):
    """Also past the context, where the last half of it starts a fresh one."""
    network, prompt = lm(3), tokens(1, 6)[0]
    nn.init.zeros_(network.norm.bias)  # else the greedy text is one token, repeated
    for weight in (network.norm.weight, network.embedding.weight):
        nn.init.normal_(weight)
    for block in network.blocks:
        block.attention.proj.weight.data *= 3
    torch.manual_seed(0)
    result = write(network, prompt, 60, draft="S", shared_cache=shared, k=3, temperature=0)
    expected = prompt
    for start, stop in ((0, 33), (17, 50), (34, 66)):  # each fresh context begins at half of 32
        for _ in range(len(expected), stop):  # no cache: a pass over all for each token
            following = network(expected[None, start:])[0, -1].argmax()
            expected = torch.cat([expected, following[None]])
    assert torch.equal(network.sample(1, 60, prompt, temperature=0)[0], expected[6:])
    assert torch.equal(result.tokens, expected[6:])
    assert len(result.tokens.unique()) > 4, "too dull a text to test anything"
    assert 0 < result.accepted < result.drafted
    assert result.verifier_calls < 60 and len(result.origin) == 60


def test_shared_cache_is_one_object_and_two_models_cannot_share():
    network = lm()
    one = predictor(network)
    assert predictor(network, "S", one.caches).caches is one.caches
    with pytest.raises(ValueError, match="cannot share a cache"):
        write(network, tokens(1, 4)[0], 5, draft_model=lm(1))
    text = write(network, tokens(1, 4)[0], 5, draft_model=lm(1), shared_cache=False)
    assert len(text.tokens) == 5


def test_retrieval_finds_the_nearest_direction():
    database = torch.tensor([[1.0, 0.0], [0.0, 5.0], [-1.0, -1.0]])
    queries = torch.tensor([[9.0, 1.0], [0.1, 0.2], [-3.0, -2.0]])
    assert elastic.nearest(queries, database).tolist() == [0, 1, 2]
    labels = torch.tensor([4, 5, 6])
    accuracy = elastic.retrieval_accuracy(queries, torch.tensor([4, 5, 5]), database, labels)
    assert accuracy == pytest.approx(2 / 3)


def test_contribution_of_a_neuron():
    network, x = lm(), tokens()
    found = elastic.neuron_contributions(network, x)
    assert found.shape == (4, 64) and (found > 0).all()
    silent = copy.deepcopy(network)
    silent.blocks[2].mlp.down.weight.data[:, 5] = 0
    again = elastic.neuron_contributions(silent, x)
    assert again[2, 5] == 0
    torch.testing.assert_close(again[:2], found[:2])


def test_sampling_is_deterministic_and_follows_the_submodel():
    network = lm()
    drawn = []
    for submodel in ("XL", "XL", "S"):
        torch.manual_seed(3)
        drawn.append(network.sample(3, 20, submodel=submodel))
    assert drawn[0].shape == (3, 20) and torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_family_starts_from_the_same_numbers():
    family, x = matformer.untrained(LM, seed=3), tokens()
    losses = family.losses(x)
    for name in LM.names:
        twin = family.twins[name]
        torch.testing.assert_close(twin(x), family.nested(x, name))
        assert twin.config == matformer.submodel_config(LM, name)
    assert losses["excess"] == pytest.approx(0, abs=1e-6)
    for parameter in family.twins["M"].parameters():
        parameter.data *= 0  # all logits alike: the loss is log 96
    losses = family.losses(x)
    assert losses["twin_M"] == pytest.approx(4.56435, abs=1e-4)
    worst = max(losses[f"slice_{n}"] / losses[f"twin_{n}"] - 1 for n in LM.names)
    assert losses["excess"] == worst != 0
    torch.manual_seed(0)
    assert family.sample(2, 5).shape == (2, 5)
    with pytest.raises(ValueError, match="twins must be"):
        matformer.Family(family.nested, S=family.twins["S"])


def test_the_abstract_network_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        matformer.MatFormer(LM)


def test_bad_input():
    network = lm()
    with pytest.raises(ValueError, match="unknown objective 'sum'"):
        matformer.build(replace(LM, objective="sum"))
    with pytest.raises(ValueError, match="falling numbers that end in 1"):
        matformer.build(replace(LM, divisors=(1, 2)))
    with pytest.raises(ValueError, match="all divisors"):
        matformer.build(replace(LM, hidden=60))
    with pytest.raises(ValueError, match="probabilities must be 4 numbers"):
        matformer.build(replace(LM, probabilities=(0.5, 0.5)))
    with pytest.raises(ValueError, match="submodel must be one of"):
        network(tokens(), "XS")
    with pytest.raises(ValueError, match="submodel must be one of"):
        network(tokens(), ("S", "M"))
    with pytest.raises(ValueError, match="tokens must be int64"):
        network.loss({"tokens": tokens().float()})
    with pytest.raises(ValueError, match="need a prompt"):
        network.sample(1, 3, prompt=tokens()[0, :0])
    with pytest.raises(ValueError, match=r"images must be \(B, 3, 16, 16\)"):
        matformer.build(VIT)(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="patch_size must divide"):
        matformer.build(replace(VIT, patch_size=5))
    with pytest.raises(ValueError, match="width must lie in"):
        NestedFeedForward(4, 8)(torch.zeros(1, 4), 9)
    with pytest.raises(ValueError, match="unknown activation 'tanh'"):
        NestedFeedForward(4, 8, activation="tanh")
    with pytest.raises(ValueError, match="budget must be at least"):
        elastic.least_slope(LM, 10)
    with pytest.raises(ValueError, match="same places"):
        elastic.consistency(torch.zeros(2, 3), torch.zeros(3, 3))
