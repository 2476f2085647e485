"""`gentok train cvt` and `gentok sample cvt`, as small as they go."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.backbones.cvt import crops, recipe
from gentok.backbones.cvt.model import PRESETS, CvT, build
from gentok.data.image_folder import folder_batches
from gentok.training.checkpoint import load_checkpoint
from gentok.training.loop import decay_groups
from gentok.training.profiles import Profile
from gentok.training.schedules import schedule_factor

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(PRESETS["tiny"], widths=(8, 8, 16), num_heads=(1, 1, 2), depths=(1, 1, 1))


def test_train_resume_and_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "cvt.safetensors"
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, CvT) and not network.training
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert load_checkpoint(out)[1]["step"] == 4
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in pictures:
        recipe.sample(out, path, n=7, seed=1)
    with Image.open(pictures[0]) as first, Image.open(pictures[1]) as second:
        assert first.size[0] > 800 and first.tobytes() == second.tobytes()


def test_the_plain_rival_learns_for_twice_as_long():
    stage = recipe.plan("study-32", Profile("cpu", (0,), "cpu")).classifier
    longer = recipe.rival_stage(stage)
    assert (stage.steps, longer.steps) == (2000, 4000)
    assert replace(longer, steps=stage.steps) == stage


def test_decay_is_of_matrices_and_nothing_else():
    """Weights of linear and convolutional layers, found by their kind and not by their shape."""
    model = build(replace(SMALL, position="every"))
    matrices = {
        f"{name}.weight"
        for name, layer in model.named_modules()
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))
    }
    decayed, spared = decay_groups(model, 0.05)
    assert (decayed.weight_decay, spared.weight_decay) == (0.05, 0.0)
    assert decayed.names == matrices
    assert decayed.names | spared.names == {name for name, _ in model.named_parameters()}


def test_published_presets_ask_for_their_images(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="images of 224 pixels not found"):
        recipe.train("cvt-13", SMOKE, out=None, resume=False, seed=0)


def test_folder_of_images(monkeypatch, tmp_path):
    for kind in range(3):
        (tmp_path / "images" / f"class{kind}").mkdir(parents=True)
        pixels = np.full((40, 50, 3), 80 * kind, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"class{kind}" / "a.png")
    draw, num_classes = folder_batches(tmp_path / "images", 16, 8, 0, crops.random_crop)
    batch = draw(3)
    assert num_classes == 3 and batch["image"].shape == (8, 3, 16, 16)
    shade = (batch["image"].mean((1, 2, 3)) + 1) * 127.5
    torch.testing.assert_close(shade, 80.0 * batch["label"], atol=0.01, rtol=0)
    assert torch.equal(batch["image"], draw(3)["image"])
    assert not torch.equal(batch["label"], draw(4)["label"])
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    config = replace(SMALL, image_size=128, num_classes=2)
    monkeypatch.setitem(PRESETS, "cvt-13", config)
    with pytest.raises(ValueError, match="num_classes: the data have 3, got 2"):
        recipe.train("cvt-13", SMOKE, out=None, resume=False, seed=0)
    out = tmp_path / "large.safetensors"
    monkeypatch.setitem(PRESETS, "cvt-13", replace(config, num_classes=3))
    recipe.train("cvt-13", SMOKE, out=out, resume=False, seed=0)
    recipe.sample(out, tmp_path / "large.png", n=2, seed=0)
    assert (tmp_path / "large.png").is_file()


def test_crops_are_parts_of_the_image():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (100, 200, 3))
    image, rng = Image.fromarray(ramp.copy()), np.random.default_rng(0)
    slopes = []
    for _ in range(60):
        row = np.asarray(crops.random_crop(image, 20, rng)).astype(float)[10, :, 0]
        assert row.min() >= 0 and row.max() <= 199
        slopes.append(row[-1] - row[0])
    slopes = np.array(slopes)
    assert 0.3 < (slopes > 0).mean() < 0.7, "half of them are mirrored"
    assert np.abs(slopes).max() > 80 and np.abs(slopes).min() < 60


def test_sampling_without_a_checkpoint_names_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        recipe.sample(tmp_path / "absent.safetensors", tmp_path / "a.png", n=1, seed=0)


def test_small_presets_begin_at_one_side_and_mix_nothing():
    task = recipe.plan("world-32", SMOKE)
    draw = recipe.draws(task, seed=2)
    assert task.alone == 2
    assert [draw(step)["image"].shape[-1] for step in range(6)] == [32, 32, 32, 48, 32, 48]
    assert draw(1)["label"].dtype == torch.int64 and not task.mixing
    assert not torch.equal(draw(0)["image"], draw(2)["image"])
    assert recipe.plan("cvt-13", SMOKE).mixing and recipe.plan("cvt-13", SMOKE).data == "folder"
    with pytest.raises(ValueError, match="shapes or photographs, got 'folder'"):
        recipe.pictures(recipe.plan("cvt-13", SMOKE), seed=0)


@pytest.mark.parametrize(("preset", "decay"), [("cvt-13", 0.05), ("cvt-21", 0.1), ("cvt-w24", 0.1)])
def test_the_published_plan_is_the_authors(preset, decay):
    """300 epochs of 2,048, five of warm-up, 2e-3 (the paper's misprint: 0.02) down to 1e-5."""
    task, epoch = recipe.plan(preset, Profile("gpu", (0,), "cpu")), 1_281_167 / 2048
    stage = task.classifier
    assert (stage.batch_size, stage.lr, stage.betas) == (2048, 2e-3, (0.9, 0.999))
    assert (stage.weight_decay, stage.clip, stage.ema) == (decay, None, None)
    assert stage.batch_size // stage.accumulate == 256  # a GPU's share, for the batch statistics
    assert (stage.steps, stage.warmup) == (round(300 * epoch), round(5 * epoch))
    last = stage.lr * schedule_factor(stage.steps, stage.steps, stage.warmup, stage.schedule)
    assert last == pytest.approx(1e-5) and task.mixing and task.data == "folder"
    assert task.size is PRESETS[preset] and stage.precision == "bf16"
    assert task.repeats == (3 if preset == "cvt-21" else 1)


def test_cvt_21_sees_a_picture_of_a_batch_three_times(monkeypatch, tmp_path):
    folder = tmp_path / "images" / "only"
    folder.mkdir(parents=True)
    for i in range(200):
        Image.new("RGB", (8, 8), (i, i, i)).save(folder / f"{i}.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.setattr(crops, "rand_augment", lambda image, rng: image)
    task = recipe.plan("cvt-21", SMOKE)
    task = replace(task, size=SMALL, classifier=replace(task.classifier, batch_size=9))
    greys = recipe.draws(task, seed=0)(0)["image"][:, 0, 0, 0].tolist()
    assert greys[:3] == greys[3:6] == greys[6:] and len(set(greys)) == 3


def test_published_sizes_learn_from_augmented_crops(monkeypatch, tmp_path):
    folder = tmp_path / "images" / "only"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64), (10, 60, 200)).save(folder / "a.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    task = replace(recipe.plan("cvt-13", SMOKE), size=replace(SMALL, num_classes=1))
    seen = []
    monkeypatch.setattr(crops, "rand_augment", lambda image, rng: seen.append(image) or image)
    plain = recipe.draws(task, seed=0)(0)["image"]
    assert len(seen) == 8 and (plain == plain[:1, :, :1, :1]).all()  # one colour stays one
    monkeypatch.undo()
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    changed = recipe.draws(task, seed=0)(0)["image"]
    assert not torch.equal(changed, plain)


@pytest.mark.parametrize("preset", ["cvt-13", "study-32", "world-32", "tiny"])
def test_every_plan_decays_matrices_alone(preset, monkeypatch):
    """Biases, norms and the class token are spared, as in the authors' code."""
    stage = recipe.plan(preset, SMOKE).classifier
    decayed, spared = stage.fit_arguments(build(replace(SMALL, position="every")))["groups"]
    assert decayed.weight_decay == 0.05 and spared.weight_decay == 0
    assert "stages.2.class_token" in spared.names and "stages.0.position" in spared.names
    assert "stages.0.embed.conv.bias" in spared.names
    assert "stages.0.blocks.0.attention.key_conv.norm.weight" in spared.names
    assert "stages.0.blocks.0.attention.key_conv.conv.weight" in decayed.names


def test_a_rival_is_trained_beside_the_network_and_both_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "world-32", replace(SMALL, num_classes=5))
    out = tmp_path / "cvt.safetensors"
    network = recipe.train("world-32", SMOKE, out=out, resume=False, seed=0)
    pair = recipe.WEIGHTS.assemble(**recipe.WEIGHTS.collect(out))
    assert torch.equal(pair.network.head.weight, network.head.weight)
    assert pair.tables.config.position == "every" and pair.network.config.position == "none"
    found = recipe.WEIGHTS.measure(pair, 20)
    assert set(found) == {
        f"{name}_accuracy_at_{side}" for name in ("network", "tables") for side in (32, 48, 64, 80)
    }
    recipe.sample(out, tmp_path / "a.png", n=2, seed=0)
    monkeypatch.setitem(PRESETS, "world-32", SMALL)
    with pytest.raises(ValueError, match="no preset; there are: tiny"):
        recipe.sample(out, tmp_path / "b.png", n=2, seed=0)
