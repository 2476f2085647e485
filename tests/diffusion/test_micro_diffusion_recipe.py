"""How MicroDiT is trained: plans, sources, checkpoints, captioned samples."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from gentok.base import kl_vae
from gentok.diffusion import micro_diffusion as micro
from gentok.diffusion.micro_diffusion import cost, recipe, sources
from gentok.diffusion.micro_diffusion.config import MicroDiTConfig
from gentok.diffusion.micro_diffusion.model import build
from gentok.diffusion.micro_diffusion.plans import BEFORE, MASKED, plan
from gentok.diffusion.micro_diffusion.presets import PRESETS
from gentok.measure import count_parameters
from gentok.training.loop import load_model
from gentok.training.profiles import Profile
from gentok.training.schedules import schedule_factor
from gentok.training.stages import stage
from gentok.training.weights import read, write

SMOKE, GPU = Profile("smoke", (0,), "cpu"), Profile("gpu", (0,), "cpu")
LONG, STUDY = Profile("long", (0,), "cpu"), Profile("study", (0,), "cpu")


@pytest.fixture
def autoencoder(monkeypatch):
    """An untrained autoencoder stands in for the book's: no test here needs its weights."""
    torch.manual_seed(0)
    model = kl_vae.build(kl_vae.PRESETS["world-32"]).eval().requires_grad_(False)
    for module in (sources, recipe):
        monkeypatch.setattr(module, "autoencoder", lambda config: model)
    return model


# --- plans ----------------------------------------------------------------------------------------


def rates(training):
    return lambda step: (
        training.lr * schedule_factor(step, training.steps, training.warmup, training.schedule)
    )


def test_the_published_plan():
    """Four stages as two runs: 256 pixels masked and unmasked, then 512 alike."""
    first, second = plan("MicroDiT_XL_2-512", GPU).parts
    assert (first.name, second.name) == ("r256", "") and second.image_size == 512
    for part in (first, second):
        how = part.training
        assert (how.batch_size, how.betas, how.eps, how.weight_decay, how.spare) == (
            2048, (0.9, 0.999), 1e-8, 0.1, None
        )  # fmt: skip
        assert how.precision == "bf16" and how.ema is None and part.size.mask_ratio == 0.75
    assert (first.training.steps, first.size.unmasked_from) == (280_000, 250_000)
    assert (second.training.steps, second.size.unmasked_from) == (55_000, 50_000)
    assert (first.training.clip, second.training.clip) == (0.25, 0.5)
    rate = rates(first.training)
    assert rate(2499) == pytest.approx(2.4e-4) and rate(0) == pytest.approx(2.4e-4 / 2500)
    assert rate(126_250) == pytest.approx((2.4e-4 + 8e-5) / 2, rel=1e-3)  # half of the cosine
    assert rate(250_000) == rate(279_999) == pytest.approx(8e-5)
    rate = rates(second.training)
    assert rate(499) == rate(54_999) == pytest.approx(8e-5)
    assert (first.size.sigma_mean, first.size.sigma_std) == (-0.6, 1.2)
    assert (second.size.sigma_mean, second.size.sigma_std) == (0.0, 0.6)
    assert (first.size.position_scale, second.size.position_scale) == (1.0, 2.0)
    assert plan("MicroDiT_XL_2-512", GPU).num_steps == 30


def test_the_published_training_takes_the_stated_operations():
    """3.45e20 in all, as a third party has it, from the four stages' own counts."""
    phases = plan("MicroDiT_XL_2-512", GPU).phases()
    assert [(p.mask_ratio, p.steps) for p in phases] == [
        (0.75, 250_000), (0.0, 30_000), (0.75, 50_000), (0.0, 5000)
    ]  # fmt: skip
    total = cost.training_flops(phases)
    assert total == pytest.approx(3.45e20, abs=0.005e20)
    # The same steps without masking would take 2.34 times as much: $4,419 at the bill's price.
    unmasked = cost.training_flops(replace(phase, mask_ratio=0.0) for phase in phases)
    assert unmasked / total == pytest.approx(2.338, abs=0.001)
    dear = cost.bill_of(unmasked, cost.PUBLISHED.rate(total), 8, 1890 / 499.2)
    assert dear.dollars == pytest.approx(4419, abs=2)
    # The bill's 499 hours of one GPU are then a fifth of an H100's 989e12 operations a second.
    assert cost.PUBLISHED.rate(total) / 989e12 == pytest.approx(0.194, abs=0.001)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("profile", [SMOKE, LONG, GPU, STUDY], ids=lambda p: p.name)
def test_every_plan_is_whole(name, profile):
    task = plan(name, profile)
    assert len(task.parts) == 1 + (name in BEFORE)
    for part in task.parts:
        end = part.size.unmasked_from
        assert end is None if name in MASKED else 0 < end < part.training.steps
        assert part.name == "" or part is not task.parts[-1]
        part.training.fit_arguments()
    assert replace(task.parts[-1].size, unmasked_from=None) == PRESETS[name]


def test_unknown_presets():
    with pytest.raises(ValueError, match="unknown preset 'huge'"):
        plan("huge", SMOKE)


def test_the_books_model_fits_into_a_file_of_weights():
    """At most 8 MB in halves, its autoencoder included."""
    with torch.device("meta"):
        networks = build(PRESETS["world-32"]), kl_vae.build(kl_vae.PRESETS["world-32"])
    assert 2 * sum(count_parameters(network) for network in networks) < 7.8e6


# --- training -------------------------------------------------------------------------------------


def test_trains_two_resolutions_keeps_them_and_draws(autoencoder, tmp_path):
    out = tmp_path / "run.safetensors"
    model = recipe.train("world-64", SMOKE, out=out, resume=False, seed=0)
    first = stage(out, "r32")
    again = load_model(out, MicroDiTConfig, build, after=first)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert again.config.input_size == 16 and again.config.position_scale == 2.0
    small = load_model(first, MicroDiTConfig, build)
    assert small.config.input_size == 8
    assert torch.equal(small.latent_std, again.latent_std)  # the scale goes along
    assert small.latent_std.max() != 1
    recipe.sample(out, tmp_path / "samples.png", n=3, seed=0)
    assert Image.open(tmp_path / "samples.png").size[0] > 3 * 100


def test_masked_training_is_the_longer_ones_first_steps(autoencoder):
    """So the two files of weights differ by the unmasked steps alone."""
    names = ("world-32", "world-32-masked")
    for level in (SMOKE, LONG, GPU):
        whole, alone = (plan(name, level).parts[0] for name in names)
        assert alone.training.steps == whole.size.unmasked_from
        assert replace(alone.training, steps=whole.training.steps) == whole.training
    heads = {}
    for name in names:
        task, seen = plan(name, SMOKE), heads.setdefault(name, [])
        recipe.train_part(
            task.parts[0], sources.source(task, "cpu", 0), SMOKE, progress=False, seed=0,
            on_step=lambda _, model, seen=seen: seen.append(model.head.linear.weight.tolist()),
        )  # fmt: skip
    whole, alone = heads.values()
    assert alone == whole[: len(alone)] and len(whole) == len(alone) + 1


def test_resumed_training_is_the_same(autoencoder, tmp_path):
    whole = recipe.train("tiny", SMOKE, out=tmp_path / "a.safetensors", resume=False, seed=0)
    again = recipe.train("tiny", SMOKE, out=tmp_path / "a.safetensors", resume=True, seed=0)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_weights_are_kept_read_back_and_measured(autoencoder, tmp_path):
    out = tmp_path / "run.safetensors"
    model = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    kept = recipe.WEIGHTS["micro_diffusion"]
    path = write(tmp_path / "kept.safetensors", kept, kept.collect(out), {})
    system = kept.assemble(**read(path, kept))
    for name, tensor in model.state_dict().items():
        half = tensor.half().float()
        assert torch.equal(system.generator.state_dict()[name], half), name
    assert system.options == recipe.SAMPLER
    found = kept.measure(system, 4)
    assert {"drawn_shape", "drawn_colour", "drawn_place", "drawn_all", "real_all"} <= set(found)
    assert found["real_all"] >= 0.75 and found == kept.measure(system, 4)


def test_the_world_gives_latents_and_captions(autoencoder):
    task = replace(plan("tiny", SMOKE), pictures=10)
    world = sources.World(task, "cpu", seed=0)
    table = world.latents(32)
    assert table["latent"].shape == (10, 4, 8, 8) and table["caption"].shape == (10, 8, 32)
    assert torch.equal(table["latent"], world.latents(32)["latent"])
    assert world.latents(64)["latent"].shape == (10, 4, 16, 16)
    mean = autoencoder.encode(world.scenes(32).images.float() / 127.5 - 1)
    assert not torch.allclose(table["latent"], mean)  # a draw from the posterior, not its mean
    want = world.encoder(world.scenes(32).captions)
    assert torch.equal(table["caption"], want)


def test_files_give_latents_and_captions(autoencoder, tmp_path, monkeypatch):
    folder = tmp_path / "captioned"
    folder.mkdir()
    for i, text in enumerate(("a red star", "a blue disc", "the cross")):
        Image.new("RGB", (40, 36), (60 * i, 0, 0)).save(folder / f"{i}.jpg")
        (folder / f"{i}.txt").write_text(text)
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    task = replace(plan("tiny", SMOKE), data="captioned")
    batch = sources.source(task, "cpu", 0).batches(task.parts[0])(0)
    assert batch["latent"].shape == (4, 4, 8, 8) and batch["caption"].shape == (4, 8, 32)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="pictures with captions"):
        recipe.train("MicroDiT_Tiny_2", SMOKE, out=None, resume=False, seed=0)
    with pytest.raises(FileNotFoundError, match="autoencoder of 4 channels"):
        sources.autoencoder(PRESETS["MicroDiT_XL_2"])
    with pytest.raises(FileNotFoundError, match="autoencoder of 16 channels"):
        sources.autoencoder(PRESETS["MicroDiT_XL_2-16ch"])
    with pytest.raises(ValueError, match="in_channels must be one of 4, 16"):
        sources.autoencoder(replace(PRESETS["MicroDiT_XL_2"], in_channels=8))


# --- pictures -------------------------------------------------------------------------------------


def test_a_system_draws_and_is_read(autoencoder):
    torch.manual_seed(0)
    system = micro.TextToImage(autoencoder, build(PRESETS["tiny"]), num_steps=2)
    captions, looks = micro.asked(4)
    first = micro.draw(system, captions, seed=1)
    assert first.shape == (4, 3, 32, 32)
    again = micro.draw(system, captions, seed=1, rows=3)  # other rows at a time, the same noise
    torch.testing.assert_close(again, first, rtol=1e-4, atol=1e-4)
    found = micro.obeyed(first, looks)
    assert set(found) == {"shape", "colour", "place", "all", "explained"}
    with pytest.raises(ValueError, match="need n=3 captions, got 4"):
        system.sample(3, captions)
    with pytest.raises(ValueError, match="unknown word 'fox'"):
        system.sample(1, ["a red fox"])


def test_what_is_asked_goes_through_all_captions():
    captions, looks = micro.asked(400, seed=3)
    assert len(set(captions)) == 200 and looks.shape == (400, 3)
    assert captions[:200] == captions[200:] and captions != micro.asked(400, seed=4)[0]


def test_true_pictures_obey_their_captions():
    from gentok.data.placed_shapes import placed_shapes

    shapes = placed_shapes(20, seed=7)
    x = shapes.images.float() / 127.5 - 1
    assert micro.obeyed(x, shapes.looks)["all"] >= 0.9
    wrong = shapes.looks.clone()
    wrong[:, 2] = (wrong[:, 2] + 1) % 5
    found = micro.obeyed(x, wrong)
    assert found["place"] == 0 and found["colour"] >= 0.9 and found["all"] == 0
