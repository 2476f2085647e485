"""Frozen encoders: every family from a folder, without its last affine, patches in order."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import transformers

from gentok.latents.rae.encoder import (
    FAMILIES,
    EncoderConfig,
    frozen_encoder,
    load_encoder,
    outline_encoder,
    random_backbone,
)
from gentok.latents.rae.model import PRESETS

SIZES = {
    "dinov2_with_registers": {"image_size": 28, "patch_size": 14},
    "siglip": {"image_size": 32, "patch_size": 8},
    "vit_mae": {"image_size": 32, "patch_size": 4},
    "vit": {"image_size": 32, "patch_size": 8},
}
SPECIAL = {"dinov2_with_registers": 5, "siglip": 0, "vit_mae": 1, "vit": 1}
CPU = torch.device("cpu")


def config_of(family, name="nowhere"):
    return EncoderConfig(name, family, dim=24, depth=2, num_heads=2, **SIZES[family])


@pytest.fixture(autouse=True)
def quiet():
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(params=list(FAMILIES))
def saved(request, tmp_path):
    """A small checkpoint of each family in the hub's format, with a last affine that is not 1."""
    torch.manual_seed(0)
    network = random_backbone(config_of(request.param))
    norm = getattr(network, "layernorm", None) or getattr(
        getattr(network, "vision_model", network), "post_layernorm", None
    )
    torch.nn.init.normal_(norm.weight, std=3.0)
    torch.nn.init.normal_(norm.bias, std=3.0)
    network.save_pretrained(tmp_path)
    return config_of(request.param, str(tmp_path)), network.eval(), norm


def images(n=2, size=32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_families_of_the_paper_are_there():
    assert {"dinov2_with_registers", "siglip", "vit_mae"} <= set(FAMILIES)
    assert set(FAMILIES) == set(SIZES)


def test_tokens_are_transformers_own_without_affine(saved):
    """Same weights in `transformers`' model, its affine undone by hand, its prefix cut by hand."""
    config, network, norm = saved
    encoder = frozen_encoder(config).on(CPU)
    x = images(size=config.image_size)
    mean, std = (torch.tensor(v)[:, None, None] for v in FAMILIES[config.family].statistics)
    pixels = ((x + 1) / 2 - mean) / std
    options = {}
    if config.family == "vit_mae":
        network.config.mask_ratio = 0.0
        options["noise"] = torch.arange(64.0).expand(2, -1)
    with torch.no_grad():
        theirs = network(pixel_values=pixels, **options).last_hidden_state
        ours = encoder(x)
    theirs = (theirs[:, SPECIAL[config.family] :] - norm.bias) / norm.weight
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_each_token_has_mean_0_and_variance_1(saved):
    """A noise of 0.8 then means the same for every encoder."""
    tokens = frozen_encoder(saved[0]).on(CPU)(images())
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(tokens.shape[:2]), rtol=0, atol=1e-4)
    ones = torch.ones(tokens.shape[:2])
    torch.testing.assert_close(tokens.var(-1, unbiased=False), ones, rtol=0, atol=1e-2)


def test_a_changed_patch_changes_its_own_token_most(saved):
    """MAE shuffles its patches: the order of the tokens must be the image's all the same."""
    config, _, _ = saved
    encoder = frozen_encoder(config).on(CPU)
    x, p = images(1, config.image_size), config.patch_size
    row, column = config.grid - 1, config.grid - 2
    moved = x.clone()
    moved[:, :, row * p : (row + 1) * p, column * p : (column + 1) * p] *= -1
    change = (encoder(moved) - encoder(x)).norm(dim=-1)[0]
    assert int(change.argmax()) == row * config.grid + column


def test_layers_begin_with_the_last_block_and_none_is_normalised(saved):
    """What RAE's public code hands to its discriminator: the last block first, then the taps."""
    encoder = frozen_encoder(saved[0]).on(CPU)
    x = images()
    last, first, again = encoder.layers(x, (0, 1))  # an encoder of two blocks
    assert torch.equal(last, again)
    assert not torch.allclose(first, last)
    assert not torch.allclose(last, encoder(x), atol=0.1)
    normalised = F.layer_norm(last, last.shape[-1:], eps=1e-12)
    torch.testing.assert_close(normalised, encoder(x), rtol=1e-2, atol=1e-2)


def test_images_are_resized_to_what_the_network_wants(saved):
    config, _, _ = saved
    encoder = frozen_encoder(config).on(CPU)
    big, size = images(size=40), config.image_size
    small = F.interpolate(big, (size, size), mode="bicubic", align_corners=False)
    torch.testing.assert_close(encoder(big), encoder(small))
    bilinear = load_encoder(replace(config, interpolation="bilinear")).eval()
    assert not torch.allclose(bilinear(big), encoder(big), atol=1e-3)


def test_siglip_comes_out_of_a_checkpoint_with_both_towers(tmp_path):
    from transformers import SiglipConfig, SiglipModel

    tower = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = tower | {"image_size": 32, "patch_size": 8, "intermediate_size": 96}
    both = SiglipConfig(text_config=tower | {"vocab_size": 11}, vision_config=vision)
    network = SiglipModel(both).eval()
    network.save_pretrained(tmp_path)
    encoder = load_encoder(config_of("siglip", str(tmp_path))).eval()
    names = dict(encoder.backbone.named_parameters())
    source = dict(network.vision_model.named_parameters())
    shared = [name for name in names if name in source and "embedding" in name]
    assert shared and all(torch.equal(names[name], source[name]) for name in shared)


def test_frozen_and_outlined_on_the_meta_device(saved):
    config, _, _ = saved
    encoder = frozen_encoder(config)
    assert not any(p.requires_grad for p in encoder.on(CPU).parameters())
    tokens = encoder.on(torch.device("meta"))(torch.zeros(3, 3, 20, 20, device="meta"))
    assert tokens.is_meta and tokens.shape == (3, config.grid**2, 24)


def test_outline_needs_no_checkpoint_and_has_the_default_tokens():
    with torch.device("meta"):
        encoder = outline_encoder(EncoderConfig())
    count = sum(p.numel() for p in encoder.backbone.parameters())
    assert encoder.to("meta")(torch.zeros(1, 3, 256, 256, device="meta")).shape == (1, 256, 768)
    assert 85e6 < count < 88e6  # ViT-B


def test_wrong_checkpoints_are_named(saved, tmp_path):
    config, _, _ = saved
    other = "vit" if config.family != "vit" else "vit_mae"
    with pytest.raises(ValueError, match=f"is of the family '.*', expected '{other}'"):
        load_encoder(replace(config, family=other))
    with pytest.raises(ValueError, match=r"has dim and patch_size \(24, .*expected \(32, "):
        load_encoder(replace(config, dim=32))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no encoder weights in folder .*accepted: a fold"):
        load_encoder(replace(config, name=str(empty)))


def test_a_name_without_an_owner_never_asks_the_hub(monkeypatch):
    """The small presets' encoder is a folder: where it is not, say so before anything is asked."""

    def ask(*_, **__):
        raise AssertionError("asked the hub")

    monkeypatch.setattr(transformers.PretrainedConfig, "get_config_dict", ask)
    with pytest.raises(FileNotFoundError, match="no encoder weights in folder 'small-mae'"):
        load_encoder(PRESETS["tiny"].encoder)


def test_bad_configurations():
    with pytest.raises(ValueError, match="unknown encoder family 'clip'; accepted: dinov2_with"):
        EncoderConfig(family="clip")
    with pytest.raises(ValueError, match="patch_size must divide image_size, got 14 and 256"):
        EncoderConfig(image_size=256)
