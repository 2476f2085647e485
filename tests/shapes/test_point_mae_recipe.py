"""`gentok train point_mae` and `gentok sample point_mae`, as small as they go."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.shapes.point_mae import recipe
from gentok.shapes.point_mae import tasks as point_tasks
from gentok.shapes.point_mae.model import PRESETS, PointMAE
from gentok.training.checkpoint import load_checkpoint, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(
    PRESETS["tiny"], num_points=48, num_patches=12, patch_size=8, dim=16, depth=3, decoder_depth=1
)


@pytest.mark.slow
def test_train_resume_and_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "point_mae.safetensors"
    model = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(model, PointMAE) and not model.training
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert load_checkpoint(out)[1]["step"] == 4
    for name, config in (
        ("classifier", point_tasks.ClassifierConfig),
        ("segmenter", point_tasks.SegmenterConfig),
    ):
        task = load_model(stage(out, name), config, point_tasks.build)
        assert task.config.backbone == SMALL
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in pictures:
        recipe.sample(out, path, n=3, seed=1)
    with Image.open(pictures[0]) as first, Image.open(pictures[1]) as second:
        assert first.size[0] > 300 and first.tobytes() == second.tobytes()


def test_large_presets_ask_for_their_clouds(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="point clouds of 1024 points or more"):
        recipe.train("point-mae", SMOKE, out=None, resume=False, seed=0)


@pytest.mark.slow
def test_large_presets_learn_from_files(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.setitem(PRESETS, "point-mae", SMALL)
    for name in ("plane", "car"):
        (tmp_path / "clouds" / name).mkdir(parents=True)
        for i in range(3):
            points = np.random.default_rng(i).normal(size=(100, 3)).astype("float32")
            np.save(tmp_path / "clouds" / name / f"{i}.npy", points)
    out = tmp_path / "a.safetensors"
    recipe.train("point-mae", SMOKE, out=out, resume=False, seed=0)
    task = load_model(stage(out, "classifier"), point_tasks.ClassifierConfig, point_tasks.build)
    assert task.config.num_classes == 2 and not stage(out, "segmenter").exists()


def test_fine_tuning_points_come_from_the_farthest():
    clouds = recipe.object_clouds(4, 96, seed=0)
    draw = recipe._fine_tuning_batches(clouds, 48, 4, seed=0)
    batch = draw(0)
    assert batch["points"].shape == (4, 48, 3) and batch["parts"].shape == (4, 48)
    assert torch.equal(batch["points"], draw(0)["points"])
    assert not torch.equal(batch["points"], draw(1)["points"])


def test_sampling_without_a_checkpoint_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        recipe.sample(tmp_path / "absent.safetensors", tmp_path / "a.png", n=1, seed=0)
