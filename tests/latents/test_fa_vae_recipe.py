"""The recipe of `gentok train fa_vae`: both stages, its picture, and its batches from a folder."""

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.diffusion.lightning_dit import LightningDiT, LightningDiTConfig
from gentok.latents.fa_vae import PRESETS, FAVAEConfig, build
from gentok.profiles import profile
from gentok.recipes import fa_vae as recipe
from gentok.train import load_model


@pytest.fixture
def smoke(monkeypatch):
    monkeypatch.setenv("GENTOK_PROFILE", "smoke")
    monkeypatch.setattr(recipe, "PATCHES", 32)
    return profile()


@pytest.mark.slow
def test_trains_both_stages_and_draws(smoke, tmp_path):
    out = tmp_path / "run.safetensors"
    model = recipe.train(PRESETS["tiny"], smoke, out=out, resume=False, seed=0)
    again = load_model(out, FAVAEConfig, build)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(again.encode(x), model.encode(x))
    beside = tmp_path / "run-generator.safetensors"
    generator = load_model(beside, LightningDiTConfig, LightningDiT)
    assert generator.config.in_channels == model.config.latent_channels
    assert not torch.equal(generator.latent_std, torch.ones_like(generator.latent_std))
    recipe.sample(out, tmp_path / "samples.png", n=10, seed=0)
    assert Image.open(tmp_path / "samples.png").size == (8 * 32, 2 * 32)
    beside.unlink()  # a tokenizer alone shows reconstructions
    recipe.sample(out, tmp_path / "images.png", n=3, seed=0)
    assert Image.open(tmp_path / "images.png").size == (3 * 32, 32)


def test_large_presets_say_what_they_need(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"images of 256 pixels not found.*images/<class>"):
        recipe.train(
            PRESETS["f16d32-a"], smoke, out=tmp_path / "x.safetensors", resume=False, seed=0
        )


@pytest.mark.slow
def test_folder_batches_depend_on_the_step_alone(tmp_path):
    for name, value in (("dark", 0), ("light", 255)):
        (tmp_path / name).mkdir()
        for i in range(3):
            picture = np.full((20, 30, 3), value, np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
    draw, num_classes = recipe._folder_batches(tmp_path, 16, 8, seed=3)
    assert num_classes == 2
    first, again, next_ = draw(5), draw(5), draw(6)
    assert first["image"].shape == (8, 3, 16, 16)
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["label"], next_["label"])
    # "dark" comes first in the alphabet: label 0 has pixels at -1, label 1 at +1.
    expected = first["label"].float() * 2 - 1
    torch.testing.assert_close(first["image"].mean((1, 2, 3)), expected)
