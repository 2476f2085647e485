"""RAE's plans, and what its study holds it against: equal cost, equal training, one difference."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.latents.rae import dit as rae_dit
from gentok.latents.rae import recipe
from gentok.latents.rae.model import PRESETS
from gentok.latents.rae.plans import plain_rival, plan, rivals, velocity_macs
from gentok.measure import count_parameters
from gentok.training.profiles import Profile
from gentok.training.schedules import schedule_factor

CPU, SMOKE, GPU = (Profile(name, (0,), "cpu") for name in ("cpu", "smoke", "gpu"))
EPOCH_OF_512, EPOCH_OF_1024 = 1_281_167 / 512, 1_281_167 / 1024  # steps, by batch size


def rate(stage, step):
    return stage.lr * schedule_factor(int(step), stage.steps, stage.warmup, stage.schedule)


def test_the_study_trains_as_the_page_does():
    study, page = (plan("study-32", Profile(name, (0,), "cpu")) for name in ("study", "cpu"))
    assert study == page and page.drawn == "centred" and page.encoder is not None


@pytest.mark.parametrize("name", ["vit-b", "vit-xl", "mae-b", "siglip2-b", "vit-xl-512"])
def test_published_tokenizers_learn_from_lpips(name):
    size = plan(name, CPU).size
    assert (size.perceptual_network, size.perceptual_weight) == ("vgg-lpips", 1.0)


@pytest.mark.parametrize("name", ["tiny", "world-32", "study-32"])
def test_small_ones_learn_from_the_substitute_at_a_tenth(name):
    size = plan(name, CPU).size
    assert (size.perceptual_network, size.perceptual_weight) == ("world", 0.1)


def test_the_plain_rival_is_as_wide_as_a_token_and_costs_the_same():
    size = plan("study-32", CPU).generator_size
    plain = plain_rival(size)
    assert plain.head_depth == 0 and plain.backbone.dim == size.backbone.in_channels == 64
    block = velocity_macs(replace(plain, backbone=replace(plain.backbone, depth=2)))
    block -= velocity_macs(replace(plain, backbone=replace(plain.backbone, depth=1)))
    assert abs(velocity_macs(plain) - velocity_macs(size)) <= block / 2
    assert plain.alpha == size.alpha > 1


def test_rivals_differ_in_what_their_names_say():
    task = plan("study-32", CPU)
    others = rivals(task, CPU)
    ours = task.generator_size
    assert others.unshifted.alpha == 1
    assert replace(others.unshifted, shift_base=ours.shift_base) == ours
    assert others.vae.latent_shape == (8, 8, 8) and others.vae_stage is task.decoder
    for size, like in ((others.vae_head, ours), (others.vae_plain, others.plain)):
        assert size.latent_shape == others.vae.latent_shape and size.alpha == 1
        backbone = replace(size.backbone, in_channels=64)
        assert replace(size, backbone=backbone, shift_base=ours.shift_base) == like
    # The steps that the first study of width lacked.
    assert others.one_image.steps == 1200


def test_pictures_of_a_plan():
    task = plan("study-32", SMOKE)
    assert len(recipe.pictures(task, 0).class_names) == 10
    assert len(recipe.pictures(task, 0, drawn=True).class_names) == 5
    world = plan("world-32", SMOKE)
    assert len(recipe.pictures(world, 0, drawn=True).class_names) == 10
    with pytest.raises(ValueError, match="drawn, not read, got 'folder'"):
        recipe.pictures(plan("vit-xl", SMOKE), 0)


def test_the_decoder_follows_the_public_code():
    """16 epochs at 512 rows, one of warm-up, from 2e-4 down to 2e-5, no clipping."""
    stage = plan("vit-xl", GPU).decoder
    assert (stage.batch_size, stage.betas, stage.weight_decay) == (512, (0.9, 0.95), 0.0)
    assert (stage.clip, stage.ema, stage.lr) == (None, 0.9978, 2e-4)
    assert stage.warmup == pytest.approx(EPOCH_OF_512, abs=1)
    assert rate(stage, stage.warmup) == pytest.approx(2e-4)
    halfway = stage.warmup + (stage.steps - stage.warmup) / 2
    assert rate(stage, halfway) == pytest.approx(1.1e-4, rel=1e-3)
    assert rate(stage, stage.steps) == pytest.approx(2e-5)
    size = PRESETS["vit-xl"]
    starts = size.discriminator_start / EPOCH_OF_512, size.gan_start / EPOCH_OF_512
    assert starts == pytest.approx((6, 8), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "epochs", "weak", "scale"), [("vit-xl", 800, 14, 1.42), ("vit-xl-512", 400, 20, 1.5)]
)
def test_the_generators_follow_the_paper(name, epochs, weak, scale):
    """2e-4 for 40 epochs, then linearly to 2e-5 at epoch 800; lengths and scales by size."""
    task = plan(name, GPU)
    stage = task.generator
    assert (stage.batch_size, stage.betas, stage.clip) == (1024, (0.9, 0.95), 1.0)
    assert (stage.ema, stage.warmup) == (0.9995, 0)
    assert rate(stage, 0) == rate(stage, 40 * EPOCH_OF_1024) == 2e-4
    assert rate(stage, 420 * EPOCH_OF_1024) == pytest.approx(1.1e-4, rel=1e-4)
    assert rate(stage, 800 * EPOCH_OF_1024) == pytest.approx(2e-5, rel=1e-4)
    assert stage.steps == int(epochs * EPOCH_OF_1024)
    assert task.guide.steps == int(weak * EPOCH_OF_1024)
    assert rate(task.guide, task.guide.steps) == 2e-4
    assert recipe.auto_guidance(task.size) == scale


def test_a_generator_of_512_pixels_differs_by_its_position_table():
    """The paper names no count of its own: 1,024 places of 1,152 channels in place of 256."""
    counts = []
    for name in ("dit-dh-xl", "dit-dh-xl-512"):
        with torch.device("meta"):
            model = rae_dit.build(rae_dit.PRESETS[name])
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        counts.append((trained, count_parameters(model)))
    (trained, total), (trained_512, total_512) = counts
    assert trained == trained_512 == 838_380_628
    assert total_512 - total == 768 * 1152


def test_generators_learn_from_the_middle_and_its_mirror_image(monkeypatch, tmp_path):
    """The decoder from any part of a larger square; as in the public code."""
    folder = tmp_path / "images" / "ramp"
    folder.mkdir(parents=True)
    ramp = np.zeros((48, 48, 3), np.uint8)
    ramp[..., 0] = 5 * np.arange(48)  # columns
    ramp[..., 1] = 5 * np.arange(48)[:, None]  # rows
    Image.fromarray(ramp).save(folder / "a.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    task = replace(plan("vit-xl", SMOKE), size=replace(PRESETS["vit-xl"], grid=2))  # 32 pixels
    for crop, mirrored, moved in (
        (recipe.mirrored_crop, True, False),
        (recipe.shifted_crop, False, True),
    ):
        draw, classes = recipe._source(task, 32, 0, drawn=True, crop=crop)
        image = draw(0)["image"]
        assert classes == 1 and image.shape == (32, 3, 32, 32)
        slopes = image[:, 0, 16, -1] - image[:, 0, 16, 0]
        assert bool((slopes < 0).any()) == mirrored and (slopes > 0).any()
        heights = image[:, 1].mean((1, 2))
        assert (float(heights.std()) > 0.01) == moved
