"""The recipe of `gentok train fa_vae`: both stages and its picture."""

import json
from dataclasses import asdict

import pytest
import torch
from PIL import Image

from gentok.base.lightning_dit import LightningDiT, LightningDiTConfig
from gentok.latents.fa_vae import plans, recipe
from gentok.latents.fa_vae.model import PRESETS, FAVAEConfig, build
from gentok.training.configs import restore_config
from gentok.training.loop import load_model
from gentok.training.profiles import Profile, profile


@pytest.fixture
def smoke(monkeypatch):
    monkeypatch.setenv("GENTOK_PROFILE", "smoke")
    monkeypatch.setattr(plans, "PATCHES", 32)
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


def test_rivals_are_trained_by_the_stage_of_the_system(smoke, tmp_path):
    task = plans.plan("photographs-64", smoke)
    starts = {c.gan_start for c in (*task.rivals.values(), task.size.low, task.size.high)}
    assert starts == {3} and task.generator is None  # four fifths of four steps
    out = tmp_path / "run.safetensors"
    recipe.train("photographs-64", smoke, out=out, resume=False, seed=0)
    parts = recipe.WEIGHTS["fa_vae_photographs"].collect(out)
    assert set(parts) == set(plans.KINDS)
    assert {type(m).__name__ for m in parts.values()} == {"KLVAE", "CoupledWaveletVAE", "FAVAE"}
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    for kind, model in parts.items():
        assert not any("discriminator" in name for name in model.state_dict()), kind
        assert model.encode(x).shape == (1, 16, 16, 16)
    found = recipe.WEIGHTS["fa_vae_photographs"].measure(torch.nn.ModuleDict(parts), 2)
    assert set(found) == {f"{k}_{m}" for k in plans.KINDS for m in ("psnr", "high_mse")}


def test_published_sizes_are_sampled_as_published():
    for name in plans.PUBLISHED:
        task = plans.plan(name, Profile("gpu", (0,), "cpu"))
        assert task.size == PRESETS[name] and task.generator_size.guided_channels == 3
        assert task.tokenizer.clip is None and task.size.low.perceptual_network == "vgg-lpips"
        stored = restore_config(FAVAEConfig, json.loads(json.dumps(asdict(task.size))))
        options = plans.sampler_of(stored)  # as `gentok sample` reads it from a checkpoint
        assert options == {"num_steps": 249, "guidance_scale": 10.0, "guidance_start": 0.1}
    assert plans.sampler_of(PRESETS["world-32"]) == {"num_steps": 50, "guidance_scale": 2.0}


def test_large_presets_say_what_they_need(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"images of 256 pixels not found.*images/<class>"):
        recipe.train("f16d32-a", smoke, out=tmp_path / "x.safetensors", resume=False, seed=0)
