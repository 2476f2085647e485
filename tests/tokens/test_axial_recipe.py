"""`gentok train axial` and `gentok sample axial`, as small as they go."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.data.coloured_digits import coloured_digits
from gentok.data.printed_digits import printed_digits
from gentok.tokens.axial import recipe
from gentok.tokens.axial.model import PRESETS, AxialConfig, AxialTransformer, build, to_values
from gentok.training.checkpoint import load_checkpoint
from gentok.training.loop import load_model
from gentok.training.profiles import Profile

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(PRESETS["tiny"], dim=16, num_heads=2)


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, planes="stacked", channels=1)])
def test_train_resume_and_sample(tmp_path, monkeypatch, config):
    monkeypatch.setitem(PRESETS, "tiny", config)
    out = tmp_path / "axial.safetensors"
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, AxialTransformer) == (config.planes == "sliced")
    assert not network.training and out.is_file()
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    tensors, meta = load_checkpoint(out)
    assert meta["step"] == 4 and any(name.startswith("ema.") for name in tensors)
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in pictures:
        recipe.sample(out, path, n=12, seed=1)
    with Image.open(pictures[0]) as first, Image.open(pictures[1]) as second:
        assert first.size == (640, 128) and first.tobytes() == second.tobytes()


def test_published_presets_ask_for_their_images(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="images of 32 x 32 pixels not found"):
        recipe.train("imagenet-32", SMOKE, out=None, resume=False, seed=0)


@pytest.mark.parametrize("side, lr", [(32, 1e-4), (64, 2e-4)])
@pytest.mark.parametrize("variant", ["", "-lstm"])
def test_published_plans_are_the_released_ones(side, lr, variant):
    task = recipe.plan(f"imagenet-{side}{variant}", Profile("gpu", (0,), "cuda"))
    stage = task.model
    assert (task.data, task.size.image_size, stage.lr) == ("folder", side, lr)
    assert (stage.batch_size, stage.warmup, stage.schedule) == (64, 5000, "constant")
    assert (stage.ema, stage.clip, stage.weight_decay) == (0.99995, 1.0, 0.0)
    assert task.size.context == (variant[1:] or "axial")


def test_the_plan_of_the_study_is_small_and_of_the_papers_parts():
    task = recipe.plan("study-8", Profile("study", (0,), "cpu"))
    assert task.size == PRESETS["study-8"] and task.data == "digits"
    assert min(task.size.exterior_layers, task.size.outer_layers, task.size.inner_layers) == 2
    drawn = recipe.pixels(task, 0)(0)["pixels"]
    assert drawn.shape == (task.model.batch_size, 3, 8, 8) and drawn.max() < 8
    other = recipe.pixels(task, 1)(0)["pixels"]
    assert not torch.equal(drawn, other), "another seed brings other pictures"


def test_weights_are_measured_on_held_out_digits_and_on_samples(monkeypatch):
    torch.manual_seed(0)
    network = build(replace(SMALL, image_size=8)).eval()
    before = torch.get_rng_state()
    found = recipe.WEIGHTS.measure(network, 12)
    assert torch.equal(torch.get_rng_state(), before), "the page's random numbers were moved"
    assert found == recipe.WEIGHTS.measure(network, 12)
    assert found["bits_per_dim"] == pytest.approx(4, abs=1e-3)  # untrained: log2 of 16 values
    assert found["legible_accuracy"] < 0.5 < found["legible_accuracy_on_data"]
    assert set(found) == {
        "bits_per_dim",
        *(f"bits_plane_{c}" for c in range(3)),
        *(f"legible_accuracy{what}" for what in ("", "_on_data", "_on_shuffled")),
        *(f"completed_accuracy{what}" for what in ("", "_by_others")),
    }


def test_sizes_below_the_digits_have_no_data(monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", replace(SMALL, image_size=6))
    with pytest.raises(ValueError, match="side must be 8 or more, got 6"):
        recipe.train("tiny", SMOKE, out=None, resume=False, seed=0)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "axial.safetensors"
    recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    return out


def test_bits_per_dimension_are_the_models_own(checkpoint):
    numbers = recipe.evaluate(checkpoint, n=20)
    pixels = to_values(coloured_digits("test", 20).images, 16)
    with torch.no_grad():
        logits = [
            load_model(checkpoint, AxialConfig, build)(pixels, torch.full((20,), c))
            for c in range(3)
        ]
    nats = [
        torch.nn.functional.cross_entropy(one.flatten(0, 2), pixels[:, c].flatten())
        for c, one in enumerate(logits)
    ]
    expected = [float(value) / math.log(2) for value in nats]
    assert numbers["bits_per_dim"] == pytest.approx(sum(expected) / 3, rel=1e-5)
    assert numbers["bits_plane_2"] == pytest.approx(expected[2], rel=1e-5)


def test_the_weights_learn_printed_digits_and_are_measured_on_others(tmp_path):
    out = tmp_path / "axial.safetensors"
    network = recipe.train("digits-16", SMOKE, out=out, resume=False, seed=0)
    assert "printed digits" in recipe.WEIGHTS.data(SMOKE, 0)["training"].source
    pixels = to_values(printed_digits("test", 20, side=16).images, 8)
    with torch.no_grad():
        expected = float(network.bits(pixels).mean())
    assert recipe.evaluate(out, n=20)["bits_per_dim"] == pytest.approx(expected, rel=1e-5)


def test_the_command_measures_a_folder(checkpoint, tmp_path, capsys):
    from gentok.cli import run

    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "val" / name / f"{i}.png")
    words = ["evaluate", "axial", "--from", str(checkpoint), "-n", "6", "--json"]
    assert run([*words, "--data", str(tmp_path / "val")]) == 0
    folder = json.loads(capsys.readouterr().out)
    assert run(words) == 0
    digits = json.loads(capsys.readouterr().out)
    assert digits["bits_per_dim"] != folder["bits_per_dim"]
    for numbers in (digits, folder):  # hardly trained: near 4 bits, those of 16 equal values
        planes = [numbers[f"bits_plane_{c}"] for c in range(3)]
        assert numbers["bits_per_dim"] == pytest.approx(sum(planes) / 3)
        assert 3.5 < numbers["bits_per_dim"] < 4.5
    assert run([*words, "--data", str(tmp_path / "nowhere")]) == 2
    assert "--data: no folder at" in capsys.readouterr().err
    assert run(["evaluate", "cvt", "--from", str(checkpoint)]) == 2
    assert "has no number of its own; accepted: " in capsys.readouterr().err
