"""The recipe of `gentok train fa_vae`: both stages and its picture."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.base import lightning_dit
from gentok.base.lightning_dit import LightningDiT, LightningDiTConfig
from gentok.latents.fa_vae import plans, recipe
from gentok.latents.fa_vae.model import PRESETS, FAVAEConfig, LowBranch, build
from gentok.training.configs import restore_config
from gentok.training.loop import load_model
from gentok.training.profiles import Profile, profile

BARE = {"perceptual_weight": 0.0, "vf_weight": 0.0, "gan_weight": 0.0}


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


@pytest.mark.parametrize("name", plans.PUBLISHED)
def test_published_plans_are_va_vaes(name):
    """50 epochs of 256 for the tokenizer, 64 epochs of 1,024 for LightningDiT-XL; VA-VAE's code."""
    task = plans.plan(name, Profile("gpu", (0,), "cpu"))
    how, then = task.tokenizer, task.generator
    assert (how.batch_size, how.lr, how.betas) == (256, 1e-4, (0.5, 0.9))
    assert how.steps == pytest.approx(50 * 1_281_167 / 256, rel=2e-3)
    assert (then.batch_size, then.lr, then.betas, then.ema) == (1024, 2e-4, (0.9, 0.95), 0.9999)
    assert then.steps == pytest.approx(64 * 1_281_167 / 1024, rel=2e-3)
    assert {how.schedule, then.schedule} == {"constant"} and how.weight_decay == 0
    assert how.clip is None and then.clip is None
    low, high = task.size.low, task.size.high
    assert (low.kl_weight, low.gan_weight, low.gan_start) == (1e-6, 0.5, 5001)
    assert (low.perceptual_weight, low.vf_weight, low.vf_margins) == (1.0, 0.1, (0.25, 0.5))
    assert (low.vf_network, low.vf_channels) == ("facebook/dinov2-large", 1024)
    assert (high.kl_weight, high.gan_weight, high.gan_start) == (1e-6, 0.5, 5001)
    with torch.device("meta"):
        network = LightningDiT(replace(task.generator_size, in_channels=task.size.latent_channels))
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 674_961_824


def test_pictures_of_a_folder_are_mirrored_half_of_the_time(monkeypatch, tmp_path):
    """LightningDiT draws each picture's latents or those of its mirror image."""
    folder = tmp_path / "images" / "ramp"
    folder.mkdir(parents=True)
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    Image.fromarray(ramp.copy()).save(folder / "a.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    task = plans.plan("f16d32-a", Profile("smoke", (0,), "cpu"))
    draw, classes = recipe.pictures(task, 0, rows=24)
    rises = draw(0)["image"][:, 0, 0, -1] > 0
    assert classes == 1 and 4 < int(rises.sum()) < 20


def test_each_stage_reads_batches_of_its_own_size(monkeypatch, tmp_path):
    """Published: 256 pictures a step of the tokenizer, 1,024 of the generator."""
    small = replace(PRESETS["tiny"], low=replace(PRESETS["tiny"].low, **BARE))
    small = replace(small, high=replace(small.high, gan_weight=0.0))
    monkeypatch.setitem(PRESETS, "f16d32-a", small)
    plan = plans.plan("f16d32-a", Profile("smoke", (0,), "cpu"))
    plan = replace(plan, generator=replace(plan.generator, batch_size=6))
    plan = replace(plan, generator_size=replace(lightning_dit.PRESETS["tiny"], depth=1))
    monkeypatch.setattr(recipe, "plan", lambda *_: plan)
    folder = tmp_path / "images" / "only"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(folder / "a.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    seen = {}
    for name, kind in (("tokenizer", LowBranch), ("generator", LightningDiT)):

        def spy(self, batch, step=0, name=name, loss=kind.loss):
            seen[name] = len(batch["label"])
            return loss(self, batch, step)

        monkeypatch.setattr(kind, "loss", spy)
    recipe.train("f16d32-a", Profile("smoke", (0,), "cpu"), out=None, resume=False, seed=0)
    assert seen == {"tokenizer": 4, "generator": 6}


def test_large_presets_say_what_they_need(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"images of 256 pixels not found.*images/<class>"):
        recipe.train("f16d32-a", smoke, out=tmp_path / "x.safetensors", resume=False, seed=0)
