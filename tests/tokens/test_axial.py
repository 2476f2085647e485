"""Axial Transformer: masked full attention as oracle, dependencies one and all, likelihoods."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.activations import QuickGELUActivation

from gentok.measure import count_flops, count_parameters
from gentok.process.masked import gumbel
from gentok.tokens import axial
from gentok.tokens.axial.cost import (
    attention_macs,
    block_macs,
    plane_macs,
    sampling_evaluations,
)
from gentok.tokens.axial.decoder import DECODERS, PlaneDecoder, draw_naive
from gentok.tokens.axial.layers import (
    COLUMN,
    ROW,
    AxialAttention,
    Block,
    GridPosition,
    shift,
)
from gentok.tokens.axial.reach import prefix, sensitivity

TINY = axial.PRESETS["tiny"]
SMALL = replace(TINY, image_size=4, channels=2, num_values=5, dim=16, num_heads=2)
VARIANTS = {
    "published": SMALL,
    "stacked": replace(SMALL, planes="stacked"),
    "columns": replace(SMALL, context="columns"),
    "rows": replace(SMALL, context="rows"),
    "full": replace(SMALL, context="full"),
    "lstm": replace(SMALL, context="lstm"),
}
every_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)


def stir(network: nn.Module, std: float = 0.4) -> nn.Module:
    """Give all weights a full scale: at the start every block is almost the identity."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 or name.endswith("bias"):
            nn.init.normal_(parameter, std=std)
    return network.eval()


def model_of(config: axial.AxialConfig, seed: int = 0) -> axial.PixelModel:
    torch.manual_seed(seed)
    return stir(axial.build(config))


def pixels_of(config: axial.AxialConfig, n: int = 3, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    return axial.example(config, n)["pixels"]


# --- sizes ----------------------------------------------------------------------------------------


def counted(config: axial.AxialConfig) -> int:
    with torch.device("meta"):
        return count_parameters(axial.build(config))


@pytest.mark.parametrize("name", ["imagenet-32", "imagenet-64"])
def test_published_parameter_counts(name):
    config = axial.PRESETS[name]
    d, side = config.dim, config.image_size
    published = {"imagenet-32": 341_178_112, "imagenet-64": 606_161_152}[name]
    assert counted(config) == published == config.published_params
    by_hand = 24 * (6 * d**2 + 10 * d) + 256 * d + 2 * 2 * side * d + 54 * d + d + 2 * d
    assert by_hand + 256 * d + 256 == published


@pytest.mark.parametrize("name", ["imagenet-32", "imagenet-64"])
def test_the_variant_exchanges_the_inner_layers_alone(name):
    config = axial.PRESETS[name]
    d, inner = config.dim, config.inner_layers
    lstm = inner * (8 * d**2 + 8 * d) + 2 * d  # four gates of two matrices, two biases; one norm
    blocks = inner * (6 * d**2 + 10 * d)
    assert counted(axial.PRESETS[f"{name}-lstm"]) == config.published_params - blocks + lstm


def test_the_smallest_configuration_has_its_count():
    assert counted(TINY) == 159_056
    assert count_parameters(Block(AxialAttention(64, 4, ROW), 64)) == 6 * 64**2 + 10 * 64


def test_compared_contexts_have_equal_parameters():
    compared = set(DECODERS) - {"lstm"}  # no rival of equal size: the paper's own variant
    counts = {name: counted(replace(TINY, context=name)) for name in compared}
    assert set(counts.values()) == {159_056}, counts


def test_wide_mlps_are_not_the_published_model():
    assert counted(replace(TINY, mlp_ratio=4)) > 1.8 * 159_056


# --- layers ---------------------------------------------------------------------------------------


def full_attention_with_mask(layer: AxialAttention, x: torch.Tensor) -> torch.Tensor:
    """torch's own multi-head attention over all H W pixels, with everything off the axis hidden."""
    height, width, dim = x.shape[1:]
    oracle = nn.MultiheadAttention(dim, layer.num_heads, batch_first=True)
    oracle.in_proj_weight.data, oracle.in_proj_bias.data = layer.qkv.weight, layer.qkv.bias
    oracle.out_proj.weight.data, oracle.out_proj.bias.data = layer.proj.weight, layer.proj.bias
    places = list(itertools.product(range(height), range(width)))
    along = 1 if layer.axis == ROW else 0  # the coordinate that may differ
    hidden = [
        [q[1 - along] != k[1 - along] or (layer.causal and k[along] > q[along]) for k in places]
        for q in places
    ]
    tokens = x.flatten(1, 2)
    out, _ = oracle(tokens, tokens, tokens, attn_mask=torch.tensor(hidden), need_weights=False)
    return out.view_as(x)


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([ROW, COLUMN]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_axial_attention_is_full_attention_under_a_mask(height, width, axis, causal):
    torch.manual_seed(0)
    layer = stir(AxialAttention(12, 3, axis, causal))
    x = torch.randn(2, height, width, 12)
    torch.testing.assert_close(layer(x), full_attention_with_mask(layer, x), rtol=1e-4, atol=1e-4)


def test_raster_attention_is_causal_attention_over_all_pixels():
    torch.manual_seed(0)
    layer = stir(DECODERS["full"](3, 4, 5, 12, 3, outer_layers=2, inner_layers=0)).blocks[0]
    oracle = stir(AxialAttention(12, 3, ROW, causal=True))
    oracle.load_state_dict(layer.attention.state_dict())
    x = torch.randn(2, 3, 4, 12)
    one_row = full_attention_with_mask(oracle, x.reshape(2, 1, 12, 12))
    torch.testing.assert_close(layer.attention(x), one_row.view_as(x), rtol=1e-4, atol=1e-4)


def test_activation_is_the_sigmoid_form_of_gelu():
    torch.manual_seed(0)
    mlp = Block(AxialAttention(6, 2, ROW), 6).mlp
    x = torch.randn(4, 6)
    torch.testing.assert_close(mlp(x), mlp.fc2(QuickGELUActivation()(mlp.fc1(x))))


def test_shifts_move_by_one_and_let_zeros_in():
    x = torch.arange(1.0, 13).view(1, 3, 4, 1)
    down, right = shift(x, COLUMN)[0, ..., 0], shift(x, ROW)[0, ..., 0]
    assert down.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert right.tolist() == [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]]


def test_positions_add_up():
    position = GridPosition(3, 4, 8)
    table = position()
    assert table.shape == (3, 4, 8)
    torch.testing.assert_close(table[2, 1], position.rows[2] + position.columns[1])
    assert 2 < table.norm(dim=-1).mean() / math.sqrt(2) < 8  # rows of norm about 5


def test_dropout_is_on_both_branches_and_off_in_evaluation():
    torch.manual_seed(0)
    block = stir(Block(AxialAttention(8, 2, ROW), 8, dropout=0.999))
    x = torch.randn(1, 3, 4, 8)
    assert not torch.allclose(block(x), x)
    torch.testing.assert_close(block.train()(x), x, rtol=0, atol=1e-6, msg="a branch stays whole")


# --- dependencies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["published", "stacked", "full", "lstm"])
@pytest.mark.parametrize("trained", [False, True])
def test_every_answer_depends_on_all_earlier_sub_pixels_and_no_later_one(name, trained):
    config = replace(VARIANTS[name], channels=3)
    torch.manual_seed(0)
    network = axial.build(config)
    if trained:  # any weights, not only those of the start
        stir(network)
    assert torch.equal(sensitivity(network) > 0, prefix(config))


@given(st.integers(2, 5), st.integers(1, 3), st.sampled_from([2, 4]), st.integers(1, 2))
@settings(max_examples=8, deadline=None)
def test_dependencies_are_complete_at_any_size(size, channels, outer, inner):
    config = replace(
        SMALL, image_size=size, channels=channels, outer_layers=outer, inner_layers=inner
    )
    assert torch.equal(sensitivity(model_of(config)) > 0, prefix(config))


def within_plane(reach: torch.Tensor, config: axial.AxialConfig) -> torch.Tensor:
    """The first plane's block of the dependencies, (H, W, H, W)."""
    side = config.image_size
    return reach[: side**2, : side**2].view(side, side, side, side)


def test_without_row_blocks_the_pixels_above_right_are_missing():
    config = VARIANTS["columns"]
    reach = within_plane(sensitivity(model_of(config)) > 0, config)
    for i, j, k, m in itertools.product(range(4), repeat=4):
        expected = (k < i and m <= j) or (k == i and m < j)
        assert bool(reach[i, j, k, m]) == expected, (i, j, k, m)


def test_rows_alone_see_their_own_row_only():
    config = VARIANTS["rows"]
    reach = within_plane(sensitivity(model_of(config)) > 0, config)
    for i, j, k, m in itertools.product(range(4), repeat=4):
        assert bool(reach[i, j, k, m]) == (k == i and m < j), (i, j, k, m)


def test_later_planes_see_earlier_ones_whole_whatever_the_context():
    for name in ("columns", "rows"):
        reach = sensitivity(model_of(VARIANTS[name])) > 0
        assert reach[16:, :16].all() and not reach[:16, 16:].any()


class Unshifted(PlaneDecoder):
    """Forgets the shift down after the outer layers."""

    def above(self, h, where):
        u = h + where
        for block in self.outer:
            u = block(u)
        return u


def test_without_the_shift_down_the_present_row_leaks():
    network = axial.build(SMALL)
    network.decoder = Unshifted(4, 4, 5, 16, 2, outer_layers=2, inner_layers=2)
    reach = within_plane(sensitivity(stir(network)) > 0, SMALL)
    for i, j, k, m in itertools.product(range(4), repeat=4):
        assert bool(reach[i, j, k, m]) == (k <= i), (i, j, k, m)


def test_condition_enters_twice():
    """At the inner input it serves the first row; at the outer one it carries over rows."""
    torch.manual_seed(0)
    decoder = stir(PlaneDecoder(4, 4, 5, 16, 2, outer_layers=2, inner_layers=2))
    condition = torch.randn(1, 4, 4, 16, requires_grad=True)
    logits = decoder(torch.zeros(1, 4, 4, dtype=torch.int64), condition)
    (first,) = torch.autograd.grad(logits[0, 0, 2].square().sum(), condition, retain_graph=True)
    assert (first[0].norm(dim=-1) > 0).tolist() == [[True] * 3 + [False]] + [[False] * 4] * 3
    (later,) = torch.autograd.grad(logits[0, 1, 0].square().sum(), condition)
    assert (later[0].norm(dim=-1) > 0).tolist() == [[True] * 4, [True, *[False] * 3]] + [
        [False] * 4
    ] * 2


def test_the_plane_to_come_is_told():
    """Two black planes look alike to the next one, were it not for the indicator."""
    network = model_of(SMALL)
    black = torch.zeros(1, 2, 4, 4, dtype=torch.int64)
    conditions = [network.condition(black, torch.tensor([c])) for c in range(2)]
    assert not torch.allclose(*conditions)


# --- likelihood -----------------------------------------------------------------------------------


@every_variant
def test_first_loss_is_that_of_guessing(config):
    torch.manual_seed(0)
    total, parts = axial.build(config).loss({"pixels": pixels_of(config, 8)})
    assert float(total.detach()) == pytest.approx(math.log2(5), abs=1e-4)
    assert torch.equal(parts["bits"], total.detach()) and not parts["bits"].requires_grad


def test_first_loss_of_bytes_is_eight_bits():
    config = replace(SMALL, num_values=256)
    total, _ = axial.build(config).loss(axial.example(config, 4))
    assert float(total.detach()) == pytest.approx(8, abs=1e-4)


@every_variant
def test_probabilities_of_all_pictures_add_up_to_one(config):
    """2 planes of 2x2 pixels of 2 values are 256 pictures: the likelihood is exact."""
    config = replace(config, image_size=2, num_values=2)
    network = model_of(config).double()
    pictures = torch.tensor(list(itertools.product(range(2), repeat=8))).view(256, 2, 2, 2)
    with torch.no_grad():
        total = torch.exp2(-network.bits(pictures).sum(dim=(1, 2, 3))).sum()
    assert float(total) == pytest.approx(1, abs=1e-9)


def test_a_random_plane_estimates_all_planes():
    network, pixels = model_of(SMALL), pixels_of(SMALL, 4)
    with torch.no_grad():
        bits = network.bits(pixels)  # (4, 2, 4, 4)
        for channel in itertools.product(range(2), repeat=4):
            index = torch.tensor(channel)
            plane = network.plane_bits(pixels, index)
            torch.testing.assert_close(plane, bits[torch.arange(4), index], rtol=1e-4, atol=1e-5)
        torch.manual_seed(0)
        drawn = [float(network.loss({"pixels": pixels})[0]) for _ in range(400)]
    spread = float(bits.mean(dim=(2, 3)).std()) / 2
    assert abs(sum(drawn) / 400 - float(bits.mean())) < 4 * spread / 20 + 1e-3


def test_bits_follow_from_the_logits():
    network, pixels = model_of(SMALL), pixels_of(SMALL)
    with torch.no_grad():
        logits = network(pixels, torch.ones(3, dtype=torch.int64))
        p = logits.softmax(-1)[1, 2, 3, pixels[1, 1, 2, 3]]
        assert float(network.bits(pixels)[1, 1, 2, 3]) == pytest.approx(-math.log2(p), abs=1e-4)


# --- sampling -------------------------------------------------------------------------------------


def naive_sample(network: axial.AxialTransformer, n: int) -> torch.Tensor:
    """The whole network once for every sub-pixel, with the noise in the sampler's order."""
    config = network.config
    size = config.image_size
    pixels = torch.zeros(n, config.channels, size, size, dtype=torch.int64)
    with torch.no_grad():
        for c in range(config.channels):
            noise = gumbel((n, size, size, config.num_values))
            for i, j in itertools.product(range(size), repeat=2):
                logits = network(pixels, torch.full((n,), c))[:, i, j]
                pixels[:, c, i, j] = (logits + noise[:, i, j]).argmax(-1)
    return pixels


@pytest.mark.parametrize("name", ["published", "columns", "rows", "full", "lstm"])
def test_fast_and_naive_sampler_draw_the_same_pictures(name):
    network = model_of(replace(VARIANTS[name], channels=3), seed=3)
    drawn = []
    for sampler in (network.sample, lambda n: naive_sample(network, n)):
        torch.manual_seed(7)
        drawn.append(sampler(5))
    assert torch.equal(*drawn)
    assert len(drawn[0].unique()) > 2, "almost constant pictures would agree anyway"


def test_stacked_planes_are_drawn_as_one_tall_picture():
    network = model_of(VARIANTS["stacked"])
    torch.manual_seed(7)
    fast = network.sample(4)
    torch.manual_seed(7)
    noise = gumbel((4, 8, 4, 5))
    with torch.no_grad():
        slow = draw_naive(network.decoder, noise, 0.0, torch.full((4, 8, 4), -1))
    assert torch.equal(fast, slow.view(4, 2, 4, 4))


def test_samples_have_the_models_probabilities():
    config = replace(SMALL, image_size=2, channels=1, num_values=2)
    network = model_of(config)
    pictures = torch.tensor(list(itertools.product(range(2), repeat=4))).view(16, 1, 2, 2)
    with torch.no_grad():
        expected = torch.exp2(-network.bits(pictures).sum(dim=(1, 2, 3)))
    torch.manual_seed(0)
    drawn = network.sample(20_000).flatten(1)
    seen = torch.bincount(drawn @ torch.tensor([8, 4, 2, 1]), minlength=16) / 20_000
    assert (seen - expected).abs().max() < 0.015, "six standard errors of a share of a third"
    assert expected.max() > 1.5 * expected.mean(), "too flat to tell"


def count_evaluations(decoder: PlaneDecoder, draw) -> int:
    """Positions that pass a block of the decoder, summed over blocks."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output.shape[1] * output.shape[2]

    hooks = [m.register_forward_hook(count) for m in decoder.modules() if isinstance(m, Block)]
    draw()
    for hook in hooks:
        hook.remove()
    return total


def test_evaluations_of_the_samplers():
    config = replace(SMALL, channels=1, outer_layers=4, inner_layers=3)
    network = model_of(config)
    noise, given = torch.zeros(1, 4, 4, 5), torch.full((1, 4, 4), -1)
    with torch.no_grad():
        fast = count_evaluations(network.decoder, lambda: network.decoder.draw(noise, 0.0, given))
        slow = count_evaluations(
            network.decoder, lambda: draw_naive(network.decoder, noise, 0.0, given)
        )
    assert fast == sampling_evaluations(config) == 4 * 16 * 4 + 16 * 4 * 3
    assert slow == sampling_evaluations(config, semi_parallel=False) == 16 * 16 * 7
    published = replace(TINY, image_size=16, outer_layers=4, inner_layers=4)
    assert sampling_evaluations(published, semi_parallel=False) == 524_288
    assert sampling_evaluations(published) == 32_768


def test_given_pixels_stay_and_a_given_plane_conditions_the_rest():
    network, pixels = model_of(SMALL), pixels_of(SMALL, 2)
    given_pixels = torch.full_like(pixels, -1)
    given_pixels[:, 0] = pixels[:, 0]
    given_pixels[:, 1, :2] = pixels[:, 1, :2]
    torch.manual_seed(0)
    drawn = network.sample(2, given=given_pixels)
    kept = given_pixels >= 0
    assert torch.equal(drawn[kept], pixels[kept]) and drawn.min() >= 0
    with torch.no_grad():  # the greedy completion is the most likely value at each step
        drawn = network.sample(2, temperature=0.0, given=given_pixels)
        best = network(drawn, torch.ones(2, dtype=torch.int64)).argmax(-1)
    assert torch.equal(best[:, 2:], drawn[:, 1, 2:])


def test_temperature_zero_is_greedy_and_seeds_decide_the_rest():
    network = model_of(SMALL)
    first = network.sample(2, temperature=0.0)
    assert torch.equal(first[0], first[1]) and torch.equal(first, network.sample(2, 0.0))
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(network.sample(2))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


# --- cost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["published", "columns", "rows", "full", "lstm"])
def test_macs_equal_the_counted_operations(name):
    config = VARIANTS[name]
    with torch.device("meta"):
        network = axial.build(config)
    counted = count_flops(network.loss, axial.example(config, 1, "meta"))
    assert counted == 2 * plane_macs(config)


def test_cost_of_attention_grows_with_the_stated_powers():
    """A pair of axial layers costs N^1.5, a full layer N^2, exactly, and by PyTorch's counter."""
    for side in (8, 16, 32, 64):
        pair = 2 * attention_macs(side, side, 64, "row")
        assert pair == 4 * 64 * side**3 and attention_macs(side, side, 64, "full") == 128 * side**4
    assert attention_macs(64, 64, 1, "full") == 64 * attention_macs(64, 64, 1, "row")
    for kind, layer in (("row", ROW), ("column", COLUMN)):
        with torch.device("meta"):
            block, x = Block(AxialAttention(64, 4, layer), 64), torch.zeros(1, 8, 8, 64)
        assert count_flops(block, x) == 2 * block_macs(TINY, kind)


def test_example_runs_on_the_meta_device():
    with torch.device("meta"):
        network = axial.build(TINY)
    total, _ = network.loss(axial.example(TINY, 2, "meta"))
    assert total.is_meta and total.shape == ()


# --- training and errors --------------------------------------------------------------------------


@every_variant
def test_every_parameter_learns(config):
    network = model_of(config)
    network.bits(pixels_of(config)).mean().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.slow
def test_overfits_one_batch():
    torch.manual_seed(0)
    network = axial.build(replace(SMALL, dim=32))
    batch = {"pixels": pixels_of(SMALL, 2)}
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(250):
        total, _ = network.loss(batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    with torch.no_grad():
        assert float(network.bits(batch["pixels"]).mean()) < 0.1  # from log2 5 = 2.32


def test_values_and_images():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(axial.to_values(every, 256), every.long())
    assert axial.to_values(every, 16).bincount().tolist() == [16] * 16
    for k in (2, 5, 16, 256):
        values = torch.arange(k)
        images = axial.to_images(values, k)
        assert images[0] == -1 and images[-1] == 1
        assert torch.equal(axial.to_values(images, k), values)


def test_bad_input():
    with pytest.raises(ValueError, match="num_heads must divide dim"):
        axial.build(replace(SMALL, dim=15))
    with pytest.raises(ValueError, match="outer_layers come in pairs.*got 3"):
        axial.build(replace(SMALL, outer_layers=3))
    with pytest.raises(ValueError, match="context must be one of .*got 'diagonal'"):
        axial.build(replace(SMALL, context="diagonal"))
    with pytest.raises(ValueError, match="planes must be one of .*got 'mixed'"):
        axial.build(replace(SMALL, planes="mixed"))
    with pytest.raises(ValueError, match="axis must be 1"):
        AxialAttention(8, 2, axis=3)
    network = axial.build(SMALL)
    with pytest.raises(ValueError, match=r"pixels must be int64 \(B, 2, 4, 4\), got torch.float32"):
        network.loss({"pixels": pixels_of(SMALL).float()})
    with pytest.raises(ValueError, match=r"lie in \[0, 5\), got \[-1"):
        network.bits(pixels_of(SMALL) - 1)
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        network.sample(1, temperature=-1.0)
    with pytest.raises(ValueError, match="given must hold n=2"):
        network.sample(2, given=torch.full((1, 2, 4, 4), -1))
    with pytest.raises(ValueError, match="kind must be one of"):
        attention_macs(4, 4, 8, "diagonal")
