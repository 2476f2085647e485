"""The recipe of `gentok train fa_vae`: both stages and its picture."""

import pytest
import torch
from PIL import Image

from gentok.base.lightning_dit import LightningDiT, LightningDiTConfig
from gentok.latents.fa_vae import recipe
from gentok.latents.fa_vae.model import FAVAEConfig, build
from gentok.training.loop import load_model
from gentok.training.profiles import profile


@pytest.fixture
def smoke(monkeypatch):
    monkeypatch.setenv("GENTOK_PROFILE", "smoke")
    monkeypatch.setattr(recipe, "PATCHES", 32)
    return profile()


@pytest.mark.slow
def test_trains_both_stages_and_draws(smoke, tmp_path):
    out = tmp_path / "run.safetensors"
    model = recipe.train("tiny", smoke, out=out, resume=False, seed=0)
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
        recipe.train("f16d32-a", smoke, out=tmp_path / "x.safetensors", resume=False, seed=0)
