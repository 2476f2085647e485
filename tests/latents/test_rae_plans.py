"""RAE's plans, and what its study holds it against: equal cost, equal training, one difference."""

from dataclasses import replace

import pytest

from gentok.latents.rae import recipe
from gentok.latents.rae.plans import plain_rival, plan, rivals, velocity_macs
from gentok.training.profiles import Profile

CPU, SMOKE = (Profile(name, (0,), "cpu") for name in ("cpu", "smoke"))


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
