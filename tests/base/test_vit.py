"""The plain ViT: published counts, another implementation of it, what a table of places does."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.base import vit
from gentok.measure import count_parameters

SMALL = replace(vit.PRESETS["tiny"], dim=32, num_heads=2, depth=2)


def network(**changes):
    torch.manual_seed(0)
    model = vit.build(replace(SMALL, **changes)).eval()
    for parameter in model.parameters():  # zero biases would hide their place
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def shuffled(image, order, patch):
    """Patches of (B, C, H, W) in another order."""
    b, c, h, w = image.shape
    cut = image.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (B, C, h, P, w, P)
    cut = cut.permute(0, 1, 3, 5, 2, 4).flatten(4)[..., order]
    cut = cut.unflatten(4, (h // patch, w // patch)).permute(0, 1, 4, 2, 5, 3)
    return cut.reshape(b, c, h, w)


@pytest.mark.parametrize(
    ("name", "count"), [("deit-ti", 5_717_416), ("deit-s", 22_050_664), ("deit-b", 86_567_656)]
)
def test_published_parameter_counts(name, count):
    config = vit.PRESETS[name]
    with torch.device("meta"):
        assert count_parameters(vit.build(config)) == count == config.published_params


def test_equals_transformers():
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    theirs = ViTForImageClassification(
        ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
            image_size=32,
            patch_size=4,
            num_labels=10,
            layer_norm_eps=1e-6,
        )
    ).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    names = theirs.state_dict()
    table = names["vit.embeddings.position_embeddings"]
    ours = {
        "class_token": names["vit.embeddings.cls_token"],
        "class_position": table[:, :1],
        "position": table[:, 1:].mT.unflatten(2, (8, 8)),
    }
    for part in ("weight", "bias"):
        ours[f"patches.{part}"] = names[f"vit.embeddings.patch_embeddings.projection.{part}"]
        ours[f"norm.{part}"] = names[f"vit.layernorm.{part}"]
        ours[f"head.{part}"] = names[f"classifier.{part}"]
        for i in range(2):
            layer, block = f"vit.layers.{i}.", f"blocks.{i}."
            qkv = [names[f"{layer}attention.{x}_proj.{part}"] for x in "qkv"]
            ours[f"{block}attention.qkv.{part}"] = torch.cat(qkv)
            for a, b in (
                ("attention.proj", "attention.o_proj"),
                ("norm1", "layernorm_before"),
                ("norm2", "layernorm_after"),
                ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"),
            ):
                ours[f"{block}{a}.{part}"] = names[f"{layer}{b}.{part}"]
    model = vit.build(SMALL).eval()
    model.load_state_dict(ours)
    image = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(image), theirs(image).logits, rtol=1e-4, atol=1e-4)


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_without_a_table_the_order_of_patches_is_unknown(random):
    order = list(range(64))
    random.shuffle(order)
    torch.manual_seed(1)
    image = torch.randn(2, 3, 32, 32)
    moved = shuffled(image, order, 4)
    with torch.no_grad():
        blind, seeing = network(position=False), network()
        torch.testing.assert_close(blind(moved), blind(image), rtol=1e-4, atol=1e-5)
        if not torch.equal(moved, image):
            assert (seeing(moved) - seeing(image)).abs().max() > 1e-3


def test_table_is_resized_for_other_grids_and_kept_on_its_own():
    model = network()
    with torch.no_grad():
        tokens, size = model.tokens(torch.zeros(1, 3, 32, 32))
        bare = model.patches(torch.zeros(1, 3, 32, 32)) + model.position
        assert size == (8, 8)
        torch.testing.assert_close(tokens[:, 1:], bare.flatten(2).mT)
        for parameter in (model.patches.weight, model.patches.bias):
            parameter.zero_()
        model.position.copy_(torch.arange(8.0)[:, None].expand(1, 32, 8, 8))  # the row's number
        wide, size = model.tokens(torch.zeros(1, 3, 64, 48))
    assert size == (16, 12) and model(torch.zeros(2, 3, 64, 48)).shape == (2, 10)
    rows = wide[0, 1:, 0].detach().view(16, 12)
    expected = (torch.arange(16.0) + 0.5) / 2 - 0.5  # half-pixel centres
    torch.testing.assert_close(rows[3:13, 0], expected[3:13], rtol=0, atol=0.05)


def test_attention_of_the_class_token():
    model = network()
    image = torch.randn(2, 3, 32, 32)
    looks = model.class_attention(image)
    assert looks.shape == (2, 2, 8, 8)
    assert bool((looks.sum((2, 3)) < 1).all()) and bool((looks > 0).all())
    x, _ = model.tokens(image)
    x = model.blocks[0](x)
    last = model.blocks[1]
    q, k, v = last.attention.qkv(last.norm1(x)).view(2, 65, 3, 2, 16).permute(2, 0, 3, 1, 4)
    weights = (q[:, :, :1] @ k.mT) / 4  # d = 16
    torch.testing.assert_close(looks.flatten(2), weights.softmax(-1)[:, :, 0, 1:])


def test_stochastic_depth():
    rates = [block.drop_path.rate for block in vit.build(replace(SMALL, drop_path=0.2)).blocks]
    assert rates == [0, 0.2]


def test_every_parameter_learns_and_loss_runs_on_the_meta_device():
    model = network().train()
    batch = {"image": torch.randn(4, 3, 32, 32), "label": torch.arange(4)}
    model.loss(batch)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    with torch.device("meta"):
        total, _ = vit.build(SMALL).loss(vit.example(SMALL, 2))
    assert total.is_meta and total.shape == ()


def test_bad_input():
    with pytest.raises(ValueError, match="patch_size must divide image_size, got 5, 32"):
        vit.build(replace(SMALL, patch_size=5))
    with pytest.raises(ValueError, match="num_heads must divide dim"):
        vit.build(replace(SMALL, dim=33))
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\), got 1.0"):
        vit.build(replace(SMALL, drop_path=1.0))
    with pytest.raises(ValueError, match=r"image must be \(B, 3, H, W\).* got \(1, 1, 32, 32\)"):
        vit.build(SMALL)(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"label must be int64 \(2,\) or float \(2, 10\)"):
        vit.build(SMALL).loss({"image": torch.zeros(2, 3, 32, 32), "label": torch.zeros(2)})
