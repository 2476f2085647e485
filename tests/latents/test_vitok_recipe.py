"""`gentok train vitok` and `gentok sample vitok`: plans, files, and what they read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.data import batches, centred_shapes
from gentok.latents.vitok import plans, recipe
from gentok.latents.vitok.crop import gentle_crop
from gentok.latents.vitok.dit import ViTokDiT, ViTokDiTConfig
from gentok.latents.vitok.folder_videos import VideoFolder, video_batches
from gentok.latents.vitok.model import PRESETS, ViTokConfig, build
from gentok.latents.vitok.plans import CELLS, Rise, family, plan
from gentok.latents.vitok.stack import StackConfig
from gentok.training.loop import load_model
from gentok.training.profiles import Profile
from gentok.training.stages import companion, stage

SMOKE, GPU = Profile("smoke", (0,), "cpu"), Profile("gpu", (0,), "cuda")
SMALL = replace(
    PRESETS["study-32"], encoder=StackConfig(16, 1, 2), decoder=StackConfig(16, 1, 2), patch_size=8
)


def test_the_published_plan_of_images():
    task = plan("s-b-1x16", GPU)
    first, tuned, generator = task.first, task.second, task.generator
    assert (first.steps, first.batch_size, first.lr) == (100_000, 1024, pytest.approx(4e-4))
    assert (first.betas, first.weight_decay, first.clip, first.ema) == (
        (0.9, 0.95),
        1e-4,
        None,
        None,
    )
    assert first.precision == "bf16" and first.spare is None
    rise = first.schedule
    assert [4e-4 * rise(s) for s in (0, 3000, 100_000)] == pytest.approx([1e-5, 4e-4, 1e-5])
    assert tuned.stage.ema == 0.9999 and tuned.stage.steps == 100_000
    assert (tuned.game.gan_start, tuned.game.gan_ramp, tuned.game.gan_weight) == (1250, 12_500, 1.0)
    assert tuned.rate * tuned.stage.lr == pytest.approx(8e-5)
    assert (generator.steps, generator.ema, generator.batch_size) == (4_000_000, 0.999, 1024)
    assert generator.schedule(400_000) == 1 and generator.lr == pytest.approx(4e-4)
    assert generator.lr * generator.schedule(generator.steps) == pytest.approx(3e-5)
    assert plan("s-b-1x8x4", GPU).generator.steps == 500_000
    assert plan("s-b-1x8x4", GPU).generator_size.latent_shape == (4, 32, 32)


def test_the_published_plan_of_video():
    task = plan("s-b-4x8", GPU)
    assert (task.data, task.first.batch_size) == ("videos", 256)
    assert task.first.lr == pytest.approx(3e-4)
    assert (task.second.game.gan_start, task.second.game.gan_ramp) == (2500, 25_000)
    assert task.second.rate * task.second.stage.lr == pytest.approx(1e-5)
    assert task.size.perceptual_weight == 0.1
    assert task.size.kl_weight == pytest.approx(3e-4 * 4096 / 16_384)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_plan_in_every_profile(name):
    for profile in ("smoke", "probe", "cpu", "study", "long", "gpu"):
        task = plan(name, Profile(profile, (0,), "cpu"))
        assert task.first.steps > 0 and task.size == PRESETS[name]
        assert all(0 <= task.first.lr < 1 for _ in (0,))


def test_cells_come_in_pairs_of_equal_floats():
    floats = [size.floats for size in family().values()]
    assert len(floats) == len(CELLS)
    assert {E: floats.count(E) for E in floats} == {16: 1, 32: 2, 64: 1, 128: 2, 256: 2}
    for patch, channels in CELLS:
        assert channels < 3 * patch**2, "nothing would be compressed"
    assert plan("study-32", Profile("cpu", (0,), "cpu")).beside == {}
    own = plans.name_of(PRESETS["study-32"].patch_size, PRESETS["study-32"].latent_channels)
    assert {*plan("study-32", Profile("long", (0,), "cpu")).beside, own} == set(family())


def test_the_rise_is_linear_and_the_fall_half_a_cosine():
    rise = Rise(steps=110, warmup=10, first=0.2, last=0.1)
    assert [rise(s) for s in (0, 5, 10, 60, 110)] == pytest.approx([0.2, 0.6, 1.0, 0.55, 0.1])


@pytest.mark.slow
def test_all_stages_train_resume_and_draw(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "world-32", SMALL)
    monkeypatch.setattr(
        plans, "DITS", {"world-32": ViTokDiTConfig((8, 4, 4), StackConfig(16, 1, 2))}
    )
    kept = plans._world

    def tuned(size, profile):
        return replace(kept(size, profile), second=plans.second(size, profile))

    monkeypatch.setattr(plans, "_world", tuned)
    out = tmp_path / "run.safetensors"
    model = recipe.train("world-32", SMOKE, out=out, resume=False, seed=0)
    first = load_model(out, ViTokConfig, build)
    assert torch.equal(first.to_code.weight, model.to_code.weight), "the encoder side stands still"
    assert not torch.equal(first.from_code.weight, model.from_code.weight)
    again = recipe.train("world-32", SMOKE, out=out, resume=True, seed=0)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    generator = load_model(companion(out, "generator"), ViTokDiTConfig, ViTokDiT, after=out)
    assert generator.config.num_classes == 10 and generator.latent_std.std() > 0
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in pictures:
        recipe.sample(out, path, n=8, seed=1)
    with Image.open(pictures[0]) as a, Image.open(pictures[1]) as b:
        assert a.size == (8 * 32, 32) and a.tobytes() == b.tobytes()


def test_a_generator_of_given_pictures_keeps_the_scale_of_codes_or_loses_it():
    task = plans.drawing(64, SMOKE)
    assert task.size.floats == 1024 < 3 * 32**2 and task.size.patch_size == 8
    torch.manual_seed(0)
    model, draw = build(task.size), batches(centred_shapes(8, 32, 0), 4, 0)
    options = {"draw": draw, "progress": False}
    kept, lost = (
        recipe.train_generator(task, model, 5, 0, normalized=asked, **options).model
        for asked in (False, None)
    )
    assert kept.config.latent_shape == (64, 4, 4) and kept.config.num_classes == 5
    assert torch.equal(kept.latent_std, torch.ones(64)) and not kept.latent_mean.any()
    assert lost.latent_std.std() > 0 and lost.latent_mean.any()


def test_companions_and_reconstructions(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "study-32", SMALL)
    sizes = {"p8c4": SMALL, "p4c2": replace(SMALL, patch_size=4, latent_channels=2)}
    monkeypatch.setattr(plans, "family", lambda: dict(sizes))
    monkeypatch.setattr(recipe, "family", lambda: dict(sizes))
    out = tmp_path / "run.safetensors"
    recipe.train("study-32", SMOKE, out=out, resume=False, seed=0)
    assert stage(out, "p4c2").is_file() and not stage(out, "p8c4").is_file()
    models = recipe._collect_cells(out)
    assert set(models) == {"p8c4", "p4c2", "tuned"}
    found = recipe._measure_cells(torch.nn.ModuleDict(models), 20)
    assert set(found) == {"p8c4_psnr", "p4c2_psnr", "tuned_psnr"}
    recipe.sample(out, tmp_path / "a.png", n=3, seed=0)
    assert Image.open(tmp_path / "a.png").size == (3 * 32, 32)


def test_videos_train_and_come_back(tmp_path):
    out = tmp_path / "run.safetensors"
    model = recipe.train("tiny-video", SMOKE, out=out, resume=False, seed=0)
    assert model.config.frames == 8
    recipe.sample(out, tmp_path / "a.png", n=2, seed=0)
    assert Image.open(tmp_path / "a.png").size == (8 * 32, 2 * 32)


def frames(folder, count, shade=0):
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.full((30, 40, 3), shade + i, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")


def test_videos_of_a_folder(tmp_path):
    frames(tmp_path / "a" / "clip1", 9)
    frames(tmp_path / "a" / "short", 6)
    frames(tmp_path / "b" / "clip2", 7, 100)
    videos = VideoFolder(tmp_path, 4, 16)
    assert len(videos) == 2 and videos.class_names == ("a", "b")
    clip, label = videos[0, 0, 0]
    assert clip.shape == (4, 16, 16, 3) and label == 0
    assert set(np.diff(clip[:, 0, 0, 0].astype(int))) == {2}, "every second frame"
    draw, classes = video_batches(tmp_path, 4, 16, 4, seed=0, workers=0)
    batch = draw(0)
    assert classes == 2 and batch["video"].shape == (4, 4, 3, 16, 16)
    assert sorted(batch["label"].tolist()) == [0, 0, 1, 1], "two epochs of two clips"
    assert torch.equal(draw(0)["video"], batch["video"])
    assert batch["video"].abs().max() <= 1
    with pytest.raises(FileNotFoundError, match="no clip of 39 frames"):
        VideoFolder(tmp_path, 20, 16)


def test_the_gentle_crop_keeps_most():
    """A picture of its own coordinates tells which part was cut."""
    side = 64
    ramp = np.tile(np.arange(side, dtype=np.uint8)[:, None] * 4, (1, side))
    picture = Image.fromarray(np.stack([ramp, ramp.T, ramp], -1))
    shares = []
    for seed in range(40):
        part = np.asarray(gentle_crop(picture, 32, np.random.default_rng(seed))).astype(float) / 4
        assert part.shape == (32, 32, 3)
        spans = [abs(part[-1, 0, 0] - part[0, 0, 0]), abs(part[0, -1, 1] - part[0, 0, 1])]
        shares.append(np.prod([span / 31 * 32 / side for span in spans]))
    assert min(shares) > 0.6 and max(shares) <= 1.02, "longer sides may be cut"


def test_missing_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="images of 256 pixels"):
        recipe.train("s-b-1x16", SMOKE, out=None, resume=False, seed=0)
    with pytest.raises(FileNotFoundError, match="videos_by_class"):
        recipe.train("s-b-4x8", SMOKE, out=None, resume=False, seed=0)
    with pytest.raises(ValueError, match="unknown preset"):
        plan("x", SMOKE)
