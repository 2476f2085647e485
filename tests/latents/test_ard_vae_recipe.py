"""The recipe of `gentok train ard_vae`: its plans, its file, and what the book keeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.latents.ard_vae import recipe
from gentok.latents.ard_vae.model import ARDVAEConfig, build
from gentok.latents.ard_vae.plans import family, plan
from gentok.training.loop import load_model
from gentok.training.profiles import Profile

SMOKE, GPU = Profile("smoke", (0,), "cpu"), Profile("gpu", (0,), "cpu")


def test_published_plans():
    for name, steps, pictures in (
        ("mnist", 50 * 400, 50_000),
        ("cifar10", 100 * 300, 40_000),
        ("celeba", 50 * 1527, 162_700),
    ):
        task = plan(name, GPU)
        stage = task.model
        assert (stage.steps, task.pictures, task.prior_images) == (steps, pictures, 10_000)
        assert (stage.lr, stage.betas, stage.batch_size) == (5e-4, (0.9, 0.999), 100)
        assert stage.eps == 1e-7 and stage.clip is stage.ema is None and stage.weight_decay == 0
        assert stage.warmup == 0 and task.held_out in (10_000, 19_800)
    assert set(plan("blobs-12", Profile("long", (0,), "cpu")).beside) | {"ard_12"} == set(family())
    assert plan("blobs-12", Profile("cpu", (0,), "cpu")).beside == {}


def test_trains_keeps_and_draws(tmp_path):
    out = tmp_path / "run.safetensors"
    model = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    again = load_model(out, ARDVAEConfig, build)
    x = torch.rand(2, 1, 16, 16) * 2 - 1
    assert torch.equal(again.encode(x), model.encode(x))
    for name in ("gamma_b", "center", "relevance", "relevant"):
        assert torch.equal(getattr(again, name), getattr(model, name)), name
    assert not torch.equal(again.gamma_b, torch.ones(16))
    recipe.sample(out, tmp_path / "samples.png", n=10, seed=0)
    assert Image.open(tmp_path / "samples.png").size == (8 * 16, 2 * 16)


def test_a_stopped_run_ends_as_if_it_had_not_been_stopped(tmp_path, monkeypatch):
    """Epochs, looks at the prior and the steered rate go on: the state is in the checkpoint."""
    images = (torch.rand(60, 3, 16, 16) * 255).to(torch.uint8)
    monkeypatch.setattr(recipe, "_bytes", lambda data, size: images)
    task = plan("tiny", SMOKE)
    task = replace(task, model=replace(task.model, steps=8), pictures=50, held_out=10)
    train_set, held_out = recipe.pictures(task, 0)
    assert train_set.shape == (50, 1, 16, 16) and held_out.shape == (10, 1, 16, 16)
    options = {"held_out": held_out, "progress": False}

    def run(out, **more):
        done = recipe.train_one(task, task.size, train_set, SMOKE, 0, out=out, **options, **more)
        return done.model.state_dict()

    whole, out = run(None), tmp_path / "a.safetensors"

    def stop(step, model):
        if step == 4:
            raise KeyboardInterrupt

    kept = recipe.each_epoch
    monkeypatch.setattr(recipe, "each_epoch", lambda *a: lambda s, m: (kept(*a)(s, m), stop(s, m)))
    with pytest.raises(KeyboardInterrupt):
        run(out)
    monkeypatch.setattr(recipe, "each_epoch", kept)
    resumed = run(out, resume=True)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert whole["plateau.best"] < 1e30, "nobody looked at the validation loss"


def test_digits_of_mnist_are_padded(monkeypatch):
    class Digits:
        images = torch.full((3, 3, 28, 28), 9, dtype=torch.uint8)

    monkeypatch.setattr(recipe, "mnist", lambda split: Digits)
    images = recipe._bytes("mnist", 32)
    assert images.shape == (3, 3, 32, 32) and int(images.sum()) == 3 * 3 * 28 * 28 * 9
    assert int(images[..., :2, :].sum()) == int(images[..., -2:].sum()) == 0


def test_a_folder_of_faces(tmp_path, monkeypatch):
    folder = tmp_path / "celeba" / "img"
    folder.mkdir(parents=True)
    for i in range(3):
        pixels = np.full((218, 178, 3), 80 * i, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:06d}.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    images = recipe._bytes("celeba", 64)
    assert images.shape == (3, 3, 64, 64)
    assert images[:, 0, 0, 0].tolist() == [0, 80, 160], "the order of the files is the split's"
    with pytest.raises(FileNotFoundError, match="182,500 pictures wanted, 3 found"):
        recipe.pictures(plan("celeba", GPU), 0)


def test_missing_faces_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="CelebA not found.*celeba"):
        recipe.train("celeba", SMOKE, out=None, resume=False, seed=0)
