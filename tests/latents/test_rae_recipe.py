"""The recipe of `gentok train rae`: encoder, decoder, generator, guide, and its picture."""

from dataclasses import replace

import pytest
import torch
import transformers
from PIL import Image

from gentok.latents.rae import plans, recipe
from gentok.latents.rae.dit import RAEDiT, RAEDiTConfig
from gentok.latents.rae.model import PRESETS, RAEConfig, build
from gentok.training.loop import load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(PRESETS["tiny"], depth=1)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    transformers.utils.logging.disable_progress_bar()
    monkeypatch.setattr(plans, "PATCHES", 32)


@pytest.mark.slow
def test_trains_all_stages_resumes_and_draws(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "run.safetensors"
    model = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert stage(out, "mae").is_file() and (tmp_path / "run-encoder" / "config.json").is_file()
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    out = (tmp_path / "run.safetensors").rename(tmp_path / "moved.safetensors")
    for name in ("run-encoder", "run-generator.safetensors", "run-guide.safetensors"):
        (tmp_path / name).rename(tmp_path / name.replace("run", "moved"))
    stage(tmp_path / "run.safetensors", "mae").rename(stage(out, "mae"))
    with pytest.raises(ValueError, match="encoder 'small-mae' is named by the checkpoint alone"):
        load_model(out, RAEConfig, build).encode(x)  # a file does not choose what is opened
    loaded = recipe.load_tokenizer(out)
    assert torch.equal(loaded.decode(loaded.encode(x)), model.decode(model.encode(x)))
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    networks = [
        load_model(tmp_path / f"moved-{name}.safetensors", RAEDiTConfig, RAEDiT)
        for name in ("generator", "guide")
    ]
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert sizes[1] < sizes[0], "the guide is the weaker one"
    assert not torch.equal(networks[0].latent_var, torch.ones(64, 8, 8))
    for name in ("a.png", "b.png"):
        recipe.sample(out, tmp_path / name, n=10, seed=1)
    with Image.open(tmp_path / "a.png") as first, Image.open(tmp_path / "b.png") as second:
        assert first.size == (8 * 32, 2 * 32) and first.tobytes() == second.tobytes()
    (tmp_path / "moved-generator.safetensors").unlink()
    recipe.sample(out, tmp_path / "c.png", n=3, seed=0)  # a tokenizer alone reconstructs
    assert Image.open(tmp_path / "c.png").size == (3 * 32, 32)


def test_published_presets_say_what_they_need(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"images of 256 pixels not found.*images/<class>"):
        recipe.train("vit-b", SMOKE, out=tmp_path / "x", resume=False, seed=0)


def test_generators_follow_the_paper():
    task = recipe.plan("vit-xl", Profile("gpu", (0,), "cpu"))
    large, weak = task.generator_size, task.guide_size
    assert (large.backbone.dim, weak.backbone.dim) == (1152, 384)
    assert large.head_dim == weak.head_dim == 2048
    assert (task.decoder.steps, task.generator.steps) == (40_036, 1_000_911)
    assert task.encoder is None and task.guide.steps < task.generator.steps
