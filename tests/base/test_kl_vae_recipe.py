"""`gentok train kl_vae`: the published plans, their pictures and losses, and what is drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok import cli
from gentok.base import kl_vae_recipe
from gentok.base import recipe as base
from gentok.base.kl_vae import PRESETS, KLVAEConfig, build
from gentok.data.square_crop import square_crop
from gentok.measure.features import lpips
from gentok.training.loop import load_model
from gentok.training.profiles import Profile

SMOKE, GPU = (Profile(name, (0,), "cpu") for name in ("smoke", "gpu"))
PUBLISHED = [name for name, config in PRESETS.items() if config.published_params]


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """What a reader brings: pictures, and LPIPS's two files (random, of a narrow network)."""
    monkeypatch.setattr(lpips, "WIDTHS", (2, 2, 2, 2, 2))
    torch.manual_seed(0)
    state = lpips.LPIPS().state_dict()
    state = {
        name: value.abs() if name.startswith("lin") else value for name, value in state.items()
    }
    (tmp_path / "lpips").mkdir()
    for file, prefix in ((lpips.BACKBONE, "features."), (lpips.HEADS, "lin")):
        part = {name: value for name, value in state.items() if name.startswith(prefix)}
        torch.save(part, tmp_path / "lpips" / file)
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        pixels = rng.integers(256, size=(48, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name / "1.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def narrow(monkeypatch):
    """KL-f8 with all of its parts, but narrow and for 32 pixels."""
    config = replace(
        PRESETS["kl-f8"],
        image_size=32,
        channels=8,
        groups=4,
        num_res_blocks=1,
        discriminator_channels=4,
        discriminator_layers=1,
    )
    monkeypatch.setitem(PRESETS, "kl-f8", config)
    return config


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "va-vae-f16d32"])
def test_published_plans_are_latent_diffusions(name):
    """The public code: 4.5e-6 a row and 24 rows, (0.5, 0.9), 1e-6 KL, the adversary at 50,001."""
    task = kl_vae_recipe.plan(name, GPU)
    how, size = task.tokenizer, task.size
    assert how.lr == pytest.approx(1.08e-4) and how.batch_size == 2 * 12 == 24
    assert (how.betas, how.clip, how.ema, how.weight_decay) == ((0.5, 0.9), None, None, 0)
    assert (how.schedule, how.warmup, how.steps) == ("constant", 0, 246_803)
    assert (size.kl_weight, size.gan_weight, size.gan_start) == (1e-6, 0.5, 50_001)
    assert (size.reconstruction, size.perceptual_network) == ("l1", "vgg-lpips")
    assert size == PRESETS[name] and task.data == "squares"


def test_va_vaes_plan_is_its_own():
    task = kl_vae_recipe.plan("va-vae-f16d32", GPU)
    how = task.tokenizer
    assert (how.lr, how.batch_size, how.betas) == (1e-4, 256, (0.5, 0.9))
    assert how.steps == pytest.approx(50 * 1_281_167 / 256, rel=2e-3)
    assert task.size == PRESETS["va-vae-f16d32"] and task.data == "mirrored"


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_adversary_plays_in_every_run(name):
    for profile in (SMOKE, Profile("cpu", (0,), "cpu"), GPU):
        task = kl_vae_recipe.plan(name, profile)
        assert task.size.gan_start < task.tokenizer.steps


def test_the_books_weights_have_one_plan():
    long = Profile("long", (0,), "cpu")
    ours, theirs = kl_vae_recipe.plan("world-32", long), base.plan("kl_vae", long)
    assert (ours.size, ours.tokenizer) == (theirs.size, theirs.tokenizer)
    assert (ours.shapes, ours.scenes) == (theirs.shapes, theirs.scenes)
    first = kl_vae_recipe.train("world-32", SMOKE, out=None, resume=False, seed=3).state_dict()
    second = base.train("kl_vae", SMOKE, out=None, resume=False, seed=3).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_the_command_trains_draws_and_measures_a_published_size(brought, narrow, capsys):
    words = ["train", "kl_vae", "--preset", "kl-f8", "--profile", "smoke", "--out", "a.safetensors"]
    assert cli.run(words) == 0 and "saved a.safetensors" in capsys.readouterr().out
    model = load_model("a.safetensors", KLVAEConfig, build)
    assert model.config == replace(narrow, gan_start=1)  # the second of two steps
    torch.manual_seed(0)  # as the recipe seeds it
    start = build(model.config)
    for part in ("encoder", "decoder", "discriminator"):
        before, after = getattr(start, part).state_dict(), getattr(model, part).state_dict()
        assert any(not torch.equal(before[name], after[name]) for name in after), part
    words = ["sample", "kl_vae", "--from", "a.safetensors", "--out", "a.png", "-n", "3"]
    assert cli.run(words) == 0
    assert Image.open("a.png").size == (3 * 32, 2 * 32)  # pictures over their reconstructions
    found = kl_vae_recipe.evaluate("a.safetensors", n=3, data=brought / "images")
    assert set(found) == {"psnr", "perceptual"} and found["perceptual"] > 0
    assert 0 < found["psnr"] < 20  # noise cannot be guessed


def test_lpips_takes_part_in_the_loss(brought, narrow):
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.manual_seed(0)
    model = build(narrow)
    torch.manual_seed(1)
    total, parts = model.loss({"image": x}, 0)
    torch.manual_seed(1)
    y = model.decode(model.encode(x, sample=True))
    own = lpips.load_lpips(brought / "lpips")(x, y).mean()
    torch.testing.assert_close(parts["perceptual"], own.detach())
    torch.testing.assert_close(total, parts["reconstruction"] + own + 1e-6 * parts["kl"] / 3072)


@pytest.mark.parametrize("absent", ["images", "lpips"])
def test_what_is_absent_is_said_in_one_line(brought, narrow, capsys, absent):
    (brought / absent).rename(brought / "elsewhere")
    assert cli.run(["train", "kl_vae", "--preset", "kl-f8", "--profile", "smoke"]) == 2
    err = capsys.readouterr().err
    assert "not found" in err and absent in err and err.count("\n") == 1


def test_base_names_stand_beside_the_systems(capsys):
    assert cli.run(["info", "kl_vae", "--preset", "kl-f8"]) == 0
    assert "83,653,863" in capsys.readouterr().out
    assert cli.run(["list"]) == 0
    assert "kl_vae" in capsys.readouterr().out
    assert cli.run(["train", "kl_vae", "--preset", "kl-f9"]) == 2
    assert "did you mean kl-f8" in capsys.readouterr().err
    assert cli.run(["train", "klvae"]) == 2
    assert "unknown system 'klvae'" in capsys.readouterr().err


def test_squares_are_upright_parts_of_at_least_half():
    """Of a ramp along both axes: corners in order, and never less than half of the shorter side."""
    ramp = np.zeros((64, 96, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(96)[None], np.arange(64)[:, None]
    picture, widths = Image.fromarray(ramp), []
    for seed in range(200):
        square = np.asarray(square_crop(picture, 16, np.random.default_rng(seed))).astype(int)
        assert square.shape == (16, 16, 3)
        across, down = square[0, -1, 0] - square[0, 0, 0], square[-1, 0, 1] - square[0, 0, 1]
        assert abs(across - down) <= 2 and across > 0  # no mirror image, sides alike
        widths.append(across * 16 / 15)
    assert 30 <= min(widths) < 36 and 58 < max(widths) <= 66
    assert kl_vae_recipe.CROPS["squares"] is square_crop
