"""CvT: published counts and costs, another implementation of it, and its own invariants."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CvtConfig, CvtForImageClassification, ViTConfig

from gentok.backbones.cvt import model as cvt
from gentok.backbones.cvt.cost import cvt_macs
from gentok.backbones.cvt.weights import from_transformers, our_config, our_weights
from gentok.measure import count_flops, count_parameters

TINY = replace(cvt.PRESETS["tiny"], num_classes=10, widths=(8, 16, 32), num_heads=(1, 2, 4))
DEEPER = replace(TINY, depths=(1, 2, 3), activation="gelu")
LINEAR = ("linear", "linear", "linear")


def stir(module: torch.nn.Module) -> torch.nn.Module:
    """Random values for what starts at zero or one, running statistics included."""
    torch.manual_seed(3)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = 0.2 * torch.randn_like(tensor)
            tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    return module.eval()


def network(**changes) -> cvt.CvT:
    torch.manual_seed(0)
    return stir(cvt.build(replace(TINY, **changes)))


def on_meta(config: cvt.CvTConfig) -> cvt.CvT:
    with torch.device("meta"):
        return cvt.build(config)


# --- sizes and costs ------------------------------------------------------------------------------

STAGES = {
    "cvt-13": (61_696, 1_013_568, 18_536_448),
    "cvt-21": (61_696, 1_915_968, 29_259_264),
    "cvt-w24": (931_200, 15_555_840, 259_682_304),
}


@pytest.mark.parametrize("name", STAGES)
def test_published_parameter_counts(name):
    larger = cvt.PRESETS.get(f"{name}-384")
    assert larger is None or count_parameters(on_meta(larger)) == larger.published_params
    config = cvt.PRESETS[name]
    model = on_meta(config)
    width = config.widths[-1]
    assert tuple(count_parameters(stage) for stage in model.stages) == STAGES[name]
    assert count_parameters(model.norm) == 2 * width
    assert count_parameters(model.head) == 1000 * (width + 1)
    assert count_parameters(model) == config.published_params
    for stage, dim in zip(model.stages, config.widths, strict=True):
        assert count_parameters(stage.blocks[0]) == 12 * dim**2 + 46 * dim


@pytest.mark.parametrize(
    ("apart", "position", "millions"),
    [(True, "none", 19.5), (True, "every", 19.9), (False, "every", 20.3), (False, "none", 19.98)],
)
def test_counts_of_the_published_ablation(apart, position, millions):
    """The ablation of the embedding: they overlap or not, with and without position tables."""
    config = replace(cvt.PRESETS["cvt-13"], position=position)
    model = on_meta(cvt.patches_apart(config) if apart else config)
    assert count_parameters(model) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "size", "giga"),
    [
        *(("cvt-13", 224, 4.566), ("cvt-13", 384, 16.27), ("cvt-21", 224, 7.178)),
        *(("cvt-21", 384, 24.85), ("cvt-w24", 224, 60.92), ("cvt-w24", 384, 194.2)),
    ],
)
def test_published_cost(name, size, giga):
    config = cvt.PRESETS[name]
    macs = cvt_macs(config, size)
    assert macs / 1e9 == pytest.approx(giga, rel=3e-4)
    image = torch.zeros(1, 3, size, size, device="meta")
    assert count_flops(on_meta(config).eval(), image) == 2 * macs


def test_cost_of_unsqueezed_keys():
    """The ablation of the stride says 6.55 G against 4.53 G."""
    wide = cvt_macs(replace(cvt.PRESETS["cvt-13"], kv_stride=1))
    assert wide / 1e9 == pytest.approx(6.64, rel=1e-3)
    assert cvt_macs(cvt.PRESETS["cvt-13"]) / wide == pytest.approx(4.53 / 6.55, rel=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        *({}, {"kv_stride": 1}, {"kv_stride": 3}, {"class_token": False}),
        *({"projections": LINEAR}, {"projections": ("dw_bn", "linear", "dw_bn")}),
    ],
)
@pytest.mark.parametrize("size", [32, 28, 23])
def test_cost_equals_the_counted_operations(changes, size):
    for config in (replace(TINY, **changes), cvt.patches_apart(replace(TINY, **changes))):
        image = torch.zeros(1, 3, size, size, device="meta")
        assert count_flops(on_meta(config).eval(), image) == 2 * cvt_macs(config, size)


# --- the same network elsewhere -------------------------------------------------------------------


def theirs(config: cvt.CvTConfig) -> CvtForImageClassification:
    """The network of `transformers` with the same sizes and random weights.

    It reads the rate of stochastic depth at the stage's number instead of the block's, so that a
    stage i (from 0) of fewer than i + 1 blocks fails there.
    """
    size = CvtConfig(
        patch_sizes=config.embed_kernels,
        patch_stride=config.embed_strides,
        patch_padding=config.embed_paddings,
        embed_dim=config.widths,
        num_heads=config.num_heads,
        depth=config.depths,
        stride_kv=(config.kv_stride,) * 3,
        cls_token=(False, False, config.class_token),
        num_labels=config.num_classes,
    )
    torch.manual_seed(1)
    return stir(CvtForImageClassification(size))


def shallow(name: str) -> cvt.CvTConfig:
    """A published size in reduced depth."""
    return replace(cvt.PRESETS[name], depths=(1, 2, 3), num_classes=10, activation="gelu")


@pytest.mark.parametrize(
    ("config", "side"),
    [
        (shallow("cvt-13"), 64),
        (replace(shallow("cvt-21"), depths=(1, 3, 4)), 72),
        pytest.param(shallow("cvt-w24"), 32, marks=pytest.mark.slow),
        (DEEPER, 28),
        (replace(DEEPER, kv_stride=1), 32),
        (replace(DEEPER, class_token=False), 32),
    ],
    ids=["cvt-13", "cvt-21", "cvt-w24", "tiny, odd maps", "stride 1", "no class token"],
)
def test_equals_transformers(config, side):
    other = theirs(config).double()  # so that 1e-4 holds for sums of large activations
    model = cvt.build(config).double().eval()
    model.load_state_dict(our_weights(other.state_dict()))
    image = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        result = other(image, output_hidden_states=True)
        maps, _ = model.maps(image)
        torch.testing.assert_close(model(image), result.logits, rtol=1e-4, atol=1e-4)
    for ours, hidden in zip(maps, result.hidden_states, strict=True):
        torch.testing.assert_close(ours, hidden, rtol=1e-4, atol=1e-4)


def test_pretrained_weights_of_a_folder(tmp_path):
    other = theirs(DEEPER)
    other.save_pretrained(tmp_path)
    image = torch.randn(2, 3, 32, 32)
    exact = from_transformers(str(tmp_path), activation="gelu")
    quick = from_transformers(str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(exact(image), other(image).logits, rtol=1e-4, atol=1e-4)
        gap = (quick(image) - exact(image)).abs().max()
    assert quick.config.activation == "quick_gelu" and 0 < gap < 0.1
    assert quick.config.widths == TINY.widths and not quick.training


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="no CvT checkpoint at .*download=True asks"):
        from_transformers(str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="no CvT checkpoint at gentok/absent"):
        from_transformers("gentok/absent")
    ViTConfig().save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match="holds a vit, not a cvt"):
        from_transformers(str(tmp_path / "vit"))
    with pytest.raises(ValueError, match="qkv_projection_method must be dw_bn in all stages"):
        our_config(CvtConfig(qkv_projection_method=("avg", "dw_bn", "dw_bn")))
    with pytest.raises(ValueError, match="stride_kv must be one in all stages"):
        our_config(CvtConfig(stride_kv=(2, 2, 1)))
    with pytest.raises(ValueError, match="cls_token must be False before the last stage"):
        our_config(CvtConfig(cls_token=(True, False, True)))
    theirs(DEEPER).cvt.save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match="headless lacks classifier.bias"):
        from_transformers(str(tmp_path / "headless"))


# --- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("token", "stride"), [(0, 1), (1, 2), (0, 2), (1, 3)])
def test_attention_by_its_equation(token, stride):
    """Softmax of q k / sqrt(C) with the full width C, and convolutions only on the grid."""
    torch.manual_seed(0)
    layer = stir(cvt.ConvAttention(16, 4, "dw_bn", stride))
    x = torch.randn(2, token + 35, 16)
    grid = x[:, token:].mT.reshape(2, 16, 5, 7)

    def project(conv, linear, s):
        norm, width = conv.norm, conv.conv.weight
        y = F.conv2d(grid, width, stride=s, padding=1, groups=16)
        y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        y = torch.cat([x[:, :token], y.flatten(2).mT], 1) @ linear.weight.T + linear.bias
        return y.view(2, -1, 4, 4)  # (B, tokens, h, d)

    q = project(layer.query_conv, layer.query, 1)
    k = project(layer.key_conv, layer.key, stride)
    v = project(layer.value_conv, layer.value, stride)
    assert k.shape[1] == token + -(-5 // stride) * -(-7 // stride)
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / 16**0.5
    out = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v).flatten(2)
    torch.testing.assert_close(layer(x, (5, 7)), layer.proj(out), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.weights(x, (5, 7)), scores.softmax(-1))


def test_class_token_passes_by_the_convolutions():
    layer = stir(cvt.ConvAttention(16, 4))
    x = torch.randn(2, 1 + 16, 16)
    before = layer.heads(x, (4, 4))
    for conv in (layer.query_conv, layer.key_conv, layer.value_conv):
        conv.conv.weight.data.normal_()
    after = layer.heads(x, (4, 4))
    for a, b, linear in zip(before, after, (layer.query, layer.key, layer.value), strict=True):
        assert torch.equal(a[:, :, 0], b[:, :, 0]) and not torch.allclose(a[:, :, 1], b[:, :, 1])
        torch.testing.assert_close(a[:, :, 0].flatten(1), linear(x[:, 0]))


def test_linear_projection_keeps_all_keys_and_has_no_convolution():
    layer = cvt.ConvAttention(16, 4, "linear", kv_stride=2)
    q, k, v = layer.heads(torch.randn(2, 17, 16), (4, 4))
    assert q.shape == k.shape == v.shape == (2, 4, 17, 4)
    assert count_parameters(layer) == 4 * (16**2 + 16)


def test_biases_and_norms_of_the_projection():
    layer = cvt.ConvAttention(16, 4)
    assert layer.key_conv.conv.bias is None and layer.key_conv.conv.groups == 16
    assert layer.key.bias is not None and isinstance(layer.key_conv.norm, torch.nn.BatchNorm2d)


# --- stages ---------------------------------------------------------------------------------------


def test_grids_of_the_published_geometry():
    model = on_meta(cvt.PRESETS["cvt-13"])
    maps, token = model.maps(torch.zeros(2, 3, 224, 224, device="meta"))
    assert [tuple(m.shape) for m in maps] == [
        *((2, 64, 56, 56), (2, 192, 28, 28), (2, 384, 14, 14))
    ]
    assert token.shape == (2, 1, 384)
    with_token = [stage.class_token is not None for stage in model.stages]
    assert with_token == [False, False, True]


def test_no_norm_between_stages():
    """The second embedding reads the residual stream: twice the stream, twice its input."""
    model, seen = network(), []
    model.stages[1].embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    maps, _ = model.maps(torch.randn(2, 3, 32, 32))
    assert torch.equal(seen[0], maps[0])


def test_stochastic_depth_rises_inside_a_stage():
    model = on_meta(cvt.PRESETS["cvt-w24"])
    rates = [[block.drop_path.rate for block in stage.blocks] for stage in model.stages]
    assert rates[0] == [0, 0] == rates[1]
    assert rates[2] == pytest.approx(torch.linspace(0, 0.3, 20).tolist())


@pytest.mark.parametrize("position", cvt.POSITIONS)
def test_position_tables(position):
    model = network(position=position)
    tables = [stage.position is not None for stage in model.stages]
    expected = {
        "none": [False] * 3,
        "first": [True, False, False],
        "last": [False, False, True],
        "every": [True] * 3,
    }
    assert tables == expected[position]
    for stage, side in zip(model.stages, (16, 8, 4), strict=True):
        assert stage.position is None or stage.position.shape[2:] == (side, side)
    with torch.no_grad():
        before = model(torch.ones(1, 3, 32, 32))
        for stage in model.stages:
            if stage.position is not None:
                stage.position += torch.randn_like(stage.position)
        moved = not torch.allclose(before, model(torch.ones(1, 3, 32, 32)))
    assert moved == (position != "none")


@given(st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_order_comes_from_the_convolutions_alone(random):
    """Without them CvT is as blind to the order of its cells as a ViT without a table."""
    order = list(range(16))
    random.shuffle(order)
    torch.manual_seed(1)
    image = torch.randn(1, 3, 32, 32)
    cells = image.view(1, 3, 4, 8, 4, 8).permute(0, 1, 3, 5, 2, 4).flatten(4)[..., order]
    moved = cells.unflatten(4, (4, 4)).permute(0, 1, 4, 2, 5, 3).reshape(1, 3, 32, 32)
    config = replace(TINY, projections=LINEAR)
    # Attention in the first two stages reaches across cells, but it, too, is blind to order.
    blind = stir(cvt.build(cvt.patches_apart(config)))
    with torch.no_grad():
        torch.testing.assert_close(blind(moved), blind(image), rtol=1e-4, atol=1e-5)
        if not torch.equal(moved, image):
            assert (network()(moved) - network()(image)).abs().max() > 1e-4


@given(st.integers(8, 45), st.integers(8, 45), st.sampled_from(["none", "every"]))
@settings(max_examples=20, deadline=None)
def test_any_size_of_image(height, width, position):
    model = network(position=position)
    with torch.no_grad():
        assert model(torch.randn(1, 3, height, width)).shape == (1, 10)


def test_class_attention():
    model = network()
    image = torch.randn(2, 3, 28, 32)
    looks = model.class_attention(image)  # grid (4, 4), keys (2, 2)
    assert looks.shape == (2, 4, 2, 2)
    x, size = model.stages[2].tokens(model.stages[1](model.stages[0](image)[0])[0])
    first, last = model.stages[2].blocks
    full = last.attention.weights(last.norm1(first(x, size)), size)[:, :, 0]
    torch.testing.assert_close(full[:, :, 1:].unflatten(-1, (2, 2)), looks)
    torch.testing.assert_close(full.sum(-1), torch.ones(2, 4))
    assert model.class_attention(image, block=0).shape == (2, 4, 2, 2)
    linear = network(projections=LINEAR)
    assert linear.class_attention(torch.randn(1, 3, 32, 32)).shape == (1, 4, 4, 4)


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [True, False])
def test_every_parameter_learns(token):
    """But one convolution: nobody reads the last block's grid if the class token is classified."""
    model = network(position="every", class_token=token).train()
    model.loss({"image": torch.randn(8, 3, 32, 32), "label": torch.arange(8)})[0].backward()
    silent = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    unread = "stages.2.blocks.1.attention.query_conv."
    names = {unread + rest for rest in ("conv.weight", "norm.weight", "norm.bias")}
    assert silent == (names if token else set())


def test_soft_and_hard_labels_agree():
    model = network()
    image, label = torch.randn(4, 3, 32, 32), torch.tensor([1, 2, 3, 9])
    hard, parts = model.loss({"image": image, "label": label})
    soft, again = model.loss({"image": image, "label": F.one_hot(label, 10).float()})
    torch.testing.assert_close(hard, soft)
    assert parts["accuracy"] == again["accuracy"]
    expected = -model(image).log_softmax(-1)[range(4), label].mean()
    torch.testing.assert_close(hard, expected)


def test_running_statistics_decide_in_eval_mode():
    """Batch norm: one image gives the same logits alone and in company."""
    model, image = network(), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        alone = torch.cat([model(x[None]) for x in image])
        assert alone.shape == (4, 10), "a batch of one keeps its axis"
        torch.testing.assert_close(alone, model(image), rtol=1e-4, atol=1e-5)
        model.train()
        assert not torch.allclose(model(image), alone, atol=1e-3)


def test_same_seed_same_network():
    torch.manual_seed(5)
    one = cvt.build(TINY)
    torch.manual_seed(5)
    two = cvt.build(TINY)
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(one.eval()(image), two.eval()(image))


def test_loss_runs_on_the_meta_device():
    with torch.device("meta"):
        total, _ = cvt.build(TINY).loss(cvt.example(TINY, batch_size=2))
    assert total.is_meta and total.shape == ()


@pytest.mark.slow
def test_overfits_one_batch():
    torch.manual_seed(0)
    model = cvt.build(replace(TINY, drop_path=(0.0, 0.0, 0.0))).train()
    batch = {"image": torch.randn(16, 3, 32, 32), "label": torch.arange(16) % 10}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(150):
        total, parts = model.loss(batch, step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total < 0.1 and parts["accuracy"] == 1


def test_bad_input():
    with pytest.raises(ValueError, match="widths must have 3 entries"):
        cvt.build(replace(TINY, widths=(8, 16)))
    with pytest.raises(ValueError, match=r"depths must be at least 1, got \(0, 1, 1\)"):
        cvt.build(replace(TINY, depths=(0, 1, 1)))
    with pytest.raises(ValueError, match="num_heads must divide widths, got 3 heads, width 32"):
        cvt.build(replace(TINY, num_heads=(1, 2, 3)))
    with pytest.raises(ValueError, match="unknown position 'middle'; accepted: .*first"):
        cvt.build(replace(TINY, position="middle"))
    with pytest.raises(ValueError, match="unknown projection 'dw'"):
        cvt.build(replace(TINY, projections=("dw", "dw_bn", "dw_bn")))
    with pytest.raises(ValueError, match="unknown activation 'relu'"):
        cvt.build(replace(TINY, activation="relu"))
    with pytest.raises(ValueError, match="kv_stride must be at least 1, got 0"):
        cvt.build(replace(TINY, kv_stride=0))
    with pytest.raises(ValueError, match=r"sides of at least 8, got \(1, 3, 7, 32\)"):
        network()(torch.zeros(1, 3, 7, 32))
    with pytest.raises(ValueError, match="class_attention needs class_token=True"):
        network(class_token=False).class_attention(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="mlp_ratio 4, got 2"):
        cvt_macs(replace(TINY, mlp_ratio=2))
