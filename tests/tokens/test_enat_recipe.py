"""`gentok train enat` and `gentok sample enat`, as small as they go."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.base import vqgan
from gentok.base.vqgan import VQGANConfig
from gentok.measure import SmallClassifier
from gentok.measure.features.lpips import LPIPS
from gentok.tokens.enat import recipe
from gentok.tokens.enat.model import ENAT, PRESETS
from gentok.training.checkpoint import load_checkpoint
from gentok.training.profiles import Profile
from gentok.training.stages import stage

SMOKE = Profile("smoke", (0,), "cpu")
GPU = Profile("gpu", (0,), "cuda")
SMALL = replace(PRESETS["tiny"], dim=16, encoder_depth=1)


@pytest.mark.slow
def test_train_resume_and_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "enat.safetensors"
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, ENAT) and not network.training
    assert out.is_file() and stage(out, "tokenizer").is_file()
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    tensors, meta = load_checkpoint(out)
    assert meta["step"] == 4 and any(name.startswith("ema.") for name in tensors)
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in pictures:
        recipe.sample(out, path, n=12, seed=1)
    with Image.open(pictures[0]) as first, Image.open(pictures[1]) as second:
        assert first.size == (320, 64) and first.tobytes() == second.tobytes()


def test_large_presets_ask_for_their_images(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="images for 256 tokens"):
        recipe.train("enat-l-256", SMOKE, out=None, resume=False, seed=0)


@pytest.mark.parametrize("name", recipe.PUBLISHED)
def test_published_plans_are_the_released_ones(name):
    task = recipe.plan(name, GPU)
    how = task.generator
    assert (how.steps, how.warmup, how.schedule, how.ema) == (500_000, 5000, "constant", 0.9999)
    assert (how.betas, how.weight_decay, how.clip) == ((0.99, 0.99), 0.03, None)
    assert (how.batch_size, how.lr) == ((512, 1e-4) if name == "enat-l-512" else (2048, 4e-4))
    assert task.tokenizer_size.image_size == (512 if name == "enat-l-512" else 256)
    assert (task.tokenizer_size.factor, task.tokenizer_size.codebook_size) == (16, 1024)
    assert task.tokenizer_size.perceptual_network == "vgg-lpips", "not a classifier of the book"


def test_small_tokenizers_look_through_a_classifier_of_the_book(monkeypatch, tmp_path):
    task = recipe.plan("tiny", SMOKE)
    assert isinstance(recipe.perceptual_features(task), SmallClassifier)
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="LPIPS weights"):
        recipe.perceptual_features(recipe.plan("enat-l-256", SMOKE))


def test_pictures_of_a_folder_come_either_way(monkeypatch, tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = 255  # light on the left
    Image.fromarray(pixels).save(tmp_path / "images" / "a" / "0.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    images = recipe.pictures(recipe.plan("enat-l-256", SMOKE), seed=0)
    left = torch.cat([images(step)["image"][:, 0, 128, 0] for step in range(8)]) > 0
    assert 20 < left.sum() < 44, "half of 64 pictures are mirrored"


@pytest.mark.slow
def test_the_published_path_from_a_folder_to_a_picture(monkeypatch, tmp_path):
    """Pictures, a tokenizer that looks through LPIPS, its codes, ENAT: small, weights random."""
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((70, 80, 3), 80 * number + 20 * i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    narrow = VQGANConfig(
        channels=8, code_dim=4, multipliers=(1,) * 5, num_res_blocks=1, attention_stages=(),
        groups=4, discriminator_channels=8, discriminator_layers=2,
    )  # fmt: skip
    size = replace(SMALL, codebook_size=16, num_tokens=16, num_classes=2)
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.setitem(PRESETS, "enat-l-256", size)
    monkeypatch.setitem(vqgan.PRESETS, "vqgan-f16-1024", narrow)
    monkeypatch.setattr(recipe, "load_lpips", LPIPS)
    out = tmp_path / "enat.safetensors"
    assert isinstance(recipe.train("enat-l-256", SMOKE, out=out, resume=False, seed=0), ENAT)
    history = load_checkpoint(stage(out, "tokenizer"))[1]["history"]
    assert any("perceptual" in key for key in history[-1])
    recipe.sample(out, tmp_path / "a.png", n=2, seed=0)
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.size[0] == 2 * 64


def test_sampling_without_the_tokenizer_names_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        recipe.sample(tmp_path / "absent.safetensors", tmp_path / "a.png", n=1, seed=0)
