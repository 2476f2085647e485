"""`gentok train step_video` and `gentok sample step_video`, as small as they go."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_clips import SMALL, SMOKE, draw_clip, draw_files, file_plan

from gentok.measure import count_parameters
from gentok.training.checkpoint import load_checkpoint
from gentok.training.outputs import companions
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.video.step_video import recipe
from gentok.video.step_video import vae as video_vae
from gentok.video.step_video.batches import drop_prompts, latent_batches, video_batches
from gentok.video.step_video.blobs import shakiness
from gentok.video.step_video.folder_clips import PAIR, ClipFolder, clip_batches, window
from gentok.video.step_video.model import PRESETS, StepVideo, dress
from gentok.video.step_video.plans import STAGES, plan, turbo_size
from gentok.video.step_video.reflow import pair_noise
from gentok.video.step_video.sources import text_encoder
from gentok.video.step_video.text_encoders import WordTables

STILL = 1e-12  # a learning rate at which nothing moves that a test could see


# --- plans ----------------------------------------------------------------------------------------


def test_the_published_plan_has_every_stage():
    task = plan("step-video-t2v", Profile("gpu", (0,), "cuda"))
    assert task.stages == STAGES == ("tokenizer", "generator", "sft", "dpo", "pairs", "turbo")
    first, deep = task.tokenizers
    assert (first.size.latent_frames, first.size.factor) == (5, 8), "17 frames at 4 x 8 x 8"
    assert (deep.size.latent_frames, deep.size.factor) == (3, 16)
    assert deep.size.published_params == 498_818_819
    with torch.device("meta"):
        assert count_parameters(video_vae.build(first.size)) == 258_828_195, "as version 1"
    for part in task.tokenizers:
        assert 1 in part.frames and 17 in part.frames
        assert set(part.frames) <= set(part.size.left_over), "lengths that come out even"
    names = [(p.name, p.height, p.width, p.model.lr, p.model.steps) for p in task.pretraining]
    assert names == [
        ("t2i", 256, 256, 1e-4, 253_000),
        ("t2vi_192", 192, 320, 6e-5, 430_000),
        ("t2vi_544", 544, 992, 6e-5, 46_000),
    ]
    assert [p.buckets for p in task.pretraining[1:]] == [(1, 68, 136, 204)] * 2
    assert all(frames % 17 in (0, 1) for p in task.pretraining for frames in p.buckets)
    assert task.sft.folder == "videos_selected" and (task.sft.height, task.sft.width) == (544, 992)
    few = task.turbo.size
    assert (few.guidance_scale, few.shift) == (5.0, 17.0) and 10 <= few.num_steps <= 15
    assert few.latent_shape == task.size.latent_shape and task.turbo.pairs == 95_000
    assert (task.size.guidance_scale, task.size.shift, task.size.num_steps) == (9.0, 13.0, 50)


@pytest.mark.parametrize("preset", ["tiny", "world-32"])
@pytest.mark.parametrize("name", ["smoke", "cpu", "long"])
def test_small_plans_fit_together(preset, name):
    task = plan(preset, Profile(name, (0,), "cpu"))
    deep = task.tokenizers[-1].size
    shape = (task.size.frames, task.size.in_channels, task.size.height, task.size.width)
    assert shape == deep.latent_shape and deep.factor == 16
    assert task.tokenizer == task.tokenizers[-1].model
    assert "pairs" not in task.stages, "the world's Turbo draws its own"


@pytest.mark.parametrize(
    ("preset", "stages", "tokens"),
    [("study-blobs", ("generator", "dpo"), 8), ("study-blocks", ("generator", "turbo"), 48)],
)
def test_plans_of_studies_need_no_tokenizer(preset, stages, tokens):
    task = plan(preset, SMOKE)
    assert task.stages == stages and task.tokenizers == ()
    training = recipe.Training(task, SMOKE, seed=3, progress=False)
    frames, channels, height, width = task.size.latent_shape
    assert frames * height * width == tokens
    draw = training.source.latents(task.pretraining[0], None)
    assert draw(0)["latent"].shape == (4, frames, channels, height, width)
    before = training.generator()
    after = getattr(training, stages[1])()
    assert set(training.history) == {"", stages[1]} and len(training.source.captions) > 4
    weights = before.state_dict()
    assert any(not torch.equal(v, weights[k]) for k, v in after.state_dict().items())
    with pytest.raises(ValueError, match=f"{preset} has none called 'tokenizer'"):
        recipe.train(preset, SMOKE, out=None, resume=False, seed=0, stages=("tokenizer",))


def test_of_two_blobs_the_smoother_one_wins():
    """Shakiness is a judge without a tokenizer; the winner of a pair is never the shakier one."""
    training = recipe.Training(plan("study-blobs", SMOKE), SMOKE, seed=1, progress=False)
    pairs = training.source.preferences(training.generator(), None)
    for step in range(2):
        batch = pairs(step)
        assert (shakiness(batch["winner"]) <= shakiness(batch["loser"])).all()


def test_checkpoints_of_stages_are_companions(tmp_path):
    """So that a new run does not write over them."""
    for preset in ("step-video-t2v", "world-32"):
        for name in plan(preset, SMOKE).stages:
            for path in recipe.written(preset, SMOKE, name, tmp_path / "a.safetensors"):
                path.write_bytes(b"")
                assert path.name == "a.safetensors" or path in companions(
                    tmp_path / "a.safetensors"
                )
    with pytest.raises(ValueError, match="tiny has none called 'sft'; accepted: tokenizer"):
        recipe.written("tiny", SMOKE, "sft", tmp_path / "a.safetensors")


def test_prompts_are_dressed_as_released_and_small_ones_are_not():
    positive, negative = dress(PRESETS["step-video-t2v"], ["a cat", "a dog"])
    assert positive[0].startswith("a cat超高清") and positive[1].endswith("清晰。")
    assert negative[0] == negative[1] and negative[0].startswith("画面暗")
    assert dress(PRESETS["tiny"], ["a red star"]) == (["a red star"], [""])
    few = turbo_size(PRESETS["step-video-t2v"])
    assert few.negative_prompt == PRESETS["step-video-t2v"].negative_prompt


# --- training on the world ------------------------------------------------------------------------


@pytest.mark.slow
def test_train_resume_and_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "step.safetensors"
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, StepVideo) and not network.training
    for name in ("tokenizer", "t2i", "dpo"):
        assert stage(out, name).is_file()
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    alone = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0, stages=("dpo",))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
        torch.testing.assert_close(alone.state_dict()[name], value, rtol=0, atol=0)
    tensors, _ = load_checkpoint(stage(out, "dpo"))
    assert any(name.startswith("model.reference.") for name in tensors)
    clips = [tmp_path / "a.gif", tmp_path / "b.gif"]
    for path in clips:
        recipe.sample(out, path, n=2, seed=1)
    assert clips[0].read_bytes() == clips[1].read_bytes()
    with Image.open(clips[0]) as first:
        assert first.n_frames > 1


@pytest.mark.slow
def test_the_weights_are_trained_put_together_and_measured(tmp_path, monkeypatch):
    small = replace(PRESETS["world-32"], depth=1, num_heads=2, head_dim=8, num_steps=2)
    monkeypatch.setitem(PRESETS, "world-32", small)
    out = tmp_path / "step.safetensors"
    few = recipe.train("world-32", SMOKE, out=out, resume=False, seed=0)
    assert few.config.num_steps == 4 and few.config.guidance_scale == 1.0
    weights = recipe.WEIGHTS
    system = weights.assemble(**weights.collect(out))
    clips = system.sample(1, ["a red star moving left"], turbo=True)
    assert clips.shape == (1, 17, 3, 32, 32) and clips.isfinite().all()
    found = weights.measure(system, 6)
    assert {"psnr", "mean_clip_mse", "shape_accuracy", "turbo_direction_accuracy"} <= set(found)
    assert weights.measure(system, 6) == found, "noise and clips are fixed"
    assert len(weights.data(SMOKE, 0)["training"]) == 32


# --- training on files, stage by stage ------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Clips, selected ones, ranked pairs, as small as they go; the published plan on them."""
    draw_files(tmp_path / "data")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path / "data"))
    task = file_plan(later=STILL)
    monkeypatch.setattr(recipe, "plan", lambda preset, profile: task)
    return tmp_path / "step.safetensors"


@pytest.mark.slow
def test_each_stage_starts_from_the_checkpoint_before_it(files):
    """The later stages move nothing here: their weights are those that they started from."""

    def launch(name):
        return recipe.train(
            "step-video-t2v", SMOKE, out=files, resume=False, seed=0, stages=(name,)
        )

    with pytest.raises(FileNotFoundError, match="no checkpoint at .*step.tokenizer.safetensors"):
        launch("generator")
    launch("tokenizer")
    first = load_checkpoint(stage(files, "tokenizer_4x8x8"))[0]
    deep, fresh = load_checkpoint(stage(files, "tokenizer"))[0], []
    for name, value in deep.items():
        if name.startswith("model.tokenizer."):
            if name in first and first[name].shape == value.shape:
                torch.testing.assert_close(value, first[name], rtol=0, atol=1e-6, msg=name)
            else:
                fresh.append(name)
    assert all("patchify" in n or "conv_in" in n or "conv_out" in n for n in fresh) and fresh
    generator = launch("generator")
    assert stage(files, "t2i").is_file() and stage(files, "t2vi_192").is_file()
    before = generator.state_dict()
    for name in ("sft", "dpo", "pairs", "turbo"):
        after = launch(name).state_dict()
        for key, value in before.items():
            torch.testing.assert_close(after[key], value, rtol=0, atol=1e-5, msg=f"{name} {key}")
    pairs = sorted(stage(files, "pairs").with_suffix("").glob("*.safetensors"))
    tensors, meta = load_checkpoint(pairs[1])
    assert len(pairs) == 3 and meta["prompt"] == "a red star moving left on a floor"
    again = recipe.load_transformer(stage(files, "dpo"))
    words = text_encoder(SMALL)
    texts = words([meta["prompt"]]), words(["a video"])
    noise = pair_noise(0, 1, SMALL.latent_shape)[None]
    expected = again.sample(1, *texts, noise=noise, num_steps=2)[0]
    torch.testing.assert_close(tensors["sample"].float(), expected, rtol=1e-2, atol=1e-2)
    few = recipe.load_transformer(stage(files, "turbo")).config
    assert (few.num_steps, few.guidance_scale, few.shift) == (15, 5.0, 17.0)


@pytest.mark.slow
def test_the_generator_alone_is_trained_in_slices(tmp_path):
    """The documented launch, on two CPU processes: the tokenizer's stage before it is whole."""
    out = tmp_path / "step.safetensors"
    recipe.train("tiny", SMOKE, out=out, resume=False, seed=0, stages=("tokenizer",))
    launch = [Path(sys.executable).with_name("accelerate"), "launch", "--use_fsdp"]
    launch += ["--fsdp_version", "2", "--num_processes", "2", "--main_process_port", "0"]
    command = [*launch, "-m", "gentok.cli", "train", "step_video", "--profile", "smoke"]
    command += ["--stage", "generator", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    for path in (stage(out, "t2i"), out):
        tensors, meta = load_checkpoint(path)
        assert meta["processes"] == 2 and tensors["model.patchify.weight"].isfinite().all()


def test_the_published_size_asks_for_its_data(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="clips for Step-Video not found"):
        recipe.train("step-video-t2v", SMOKE, out=None, resume=False, seed=0)
    with pytest.raises(FileNotFoundError, match="text encoders not found"):
        text_encoder(PRESETS["step-video-t2v"])


# --- clips of a folder ----------------------------------------------------------------------------


def test_clips_of_a_folder_are_bucketed_and_cut_at_random(tmp_path):
    draw_clip(tmp_path / "short", 3, words="short")
    draw_clip(tmp_path / "long", 9, words="long")
    draw = clip_batches(tmp_path, 4, (1, 4), 16, 16, seed=0, pictures=6)
    pictures, captions = draw(0)
    assert pictures.shape == (6, 1, 3, 16, 16) and set(captions) <= {"short", "long"}
    video, captions = draw(1)
    assert video.shape == (4, 4, 3, 16, 16) and captions == ["long"] * 4, "none is frozen to fit"
    assert torch.equal(video, draw(1)[0])
    red = (video[:, :, 0, 8, 8] + 1) * 12.75  # number of the frame
    torch.testing.assert_close(red.diff(dim=1), torch.ones(4, 3), rtol=0, atol=0.05)
    many = torch.cat([draw(step)[0] for step in range(1, 41, 2)])
    starts = ((many[:, 0, 0, 8, 8] + 1) * 12.75).round()
    assert set(starts.tolist()) == {0, 1, 2, 3, 4, 5}, "nine frames hold four in six places"
    green = many[:, 0, 1, 8, 8]  # tells where the window lies
    assert green.std() > 0.2 and torch.equal(green, many[:, 3, 1, 8, 8])
    with pytest.raises(ValueError, match="no clip in .* has 10 frames; the longest has 9"):
        clip_batches(tmp_path, 1, (1, 10), 16, 16, 0)
    with pytest.raises(FileNotFoundError, match="no <clip>/caption.txt"):
        clip_batches(tmp_path / "long", 1, (1,), 16, 16, 0)


def test_clips_keep_their_proportions_and_batches_hold_one_shape(tmp_path):
    for name, size in (("wide", (40, 20)), ("tall", (21, 40)), ("even", (30, 31))):
        draw_clip(tmp_path / name, 5, size, name)
    draw = clip_batches(tmp_path, 3, (2, 4), 24, 48, seed=0, turned=True)
    seen = {}
    for step in range(24):
        video, captions = draw(step)
        assert len(set(captions)) == 1 and len(video) == 3
        seen[captions[0]] = tuple(video.shape[-2:])
    assert seen == {"wide": (24, 48), "tall": (48, 24), "even": (32, 32)}
    again = clip_batches(tmp_path, 3, (2, 4), 24, 48, seed=0, turned=True)
    assert torch.equal(again(5)[0], draw(5)[0])
    (tmp_path / "tall" / "002.png").write_bytes(b"no picture")
    draw_clip(tmp_path / "tower", 5, (20, 44), "tower")
    again = clip_batches(tmp_path, 3, (2, 4), 24, 48, seed=0, turned=True)
    with pytest.warns(UserWarning, match="002.png"):
        shapes = {tuple(again(step)[0].shape[-2:]) for step in range(24)}
    assert shapes == set(seen.values()), "another clip of the same shape takes its place"
    (tmp_path / "even" / "000.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="000.png"):
        clip_batches(tmp_path, 3, (2,), 24, 48, seed=0, turned=True)


def test_a_damaged_clip_is_named_and_passed_over(tmp_path):
    for name in "abc":
        draw_clip(tmp_path / name, 5, words=name)
    expected = clip_batches(tmp_path, 20, (2,), 16, 16, 0)(0)
    for path in (tmp_path / "b").glob("*.png"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.warns(UserWarning, match=r"/b/.*; the next clip takes its place"):
        video, words = clip_batches(tmp_path, 20, (2,), 16, 16, 0)(0)
    assert "b" in expected[1] and words == ["c" if w == "b" else w for w in expected[1]]
    kept = torch.tensor([word != "b" for word in expected[1]])
    assert torch.equal(video[kept], expected[0][kept])


@pytest.mark.parametrize("content", [b"", b" \n", b"\xe9t\xe9"])
def test_a_caption_that_is_no_text_is_named(tmp_path, content):
    draw_clip(tmp_path / "one", 3)
    (tmp_path / "one" / "caption.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"one/caption\.txt"):
        clip_batches(tmp_path, 1, (2,), 16, 16, 0)(0)
    (tmp_path / "one" / "caption.txt").write_bytes(b"\xef\xbb\xbfa ball\r\n")
    assert clip_batches(tmp_path, 1, (2,), 16, 16, 0)(0)[1] == ["a ball"]


def test_a_window_is_as_large_as_it_can_be():
    whole = window((320, 192), (160, 96), np.array([0.9, 0.3]))
    assert whole == pytest.approx((0, 0, 320, 192))
    left, top, right, bottom = window((400, 192), (160, 96), np.array([1.0, 0.5]))
    assert (top, bottom, right) == pytest.approx((0, 192, 400)) and right - left == 320


def test_pairs_of_a_folder_are_cut_alike(tmp_path):
    for kind, frames in zip(PAIR, (6, 8), strict=True):
        draw_clip(tmp_path / "p" / kind, frames, words="")
    (tmp_path / "p" / "caption.txt").write_text("words")
    winner, loser, captions = clip_batches(tmp_path, 2, (4,), 16, 16, 0, takes=PAIR)(3)
    assert torch.equal(winner, loser) and captions == ["words"] * 2
    assert ClipFolder(tmp_path, 16, 16, takes=PAIR).lengths.tolist() == [6]
    draw_clip(tmp_path / "others" / "odd", 2)
    Image.new("RGB", (9, 9)).save(tmp_path / "others" / "odd" / "z.png")
    with pytest.raises(ValueError, match="frames in .*odd differ in size"):
        ClipFolder(tmp_path / "others", 16, 16)[0, 3, 0, 0]
    (tmp_path / "none").mkdir()
    draw_clip(tmp_path / "none" / "empty", 0)
    with pytest.raises(ValueError, match="no frames .* in .*empty"):
        ClipFolder(tmp_path / "none", 16, 16)


def test_sampling_without_a_checkpoint_names_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        recipe.sample(tmp_path / "absent.safetensors", tmp_path / "a.gif", n=1, seed=0)


def test_a_tenth_of_the_prompts_is_dropped_and_buckets_take_turns():
    encoder = WordTables()
    text, empty = encoder(["a red star"] * 64), encoder([""])
    latents = torch.randn(64, 3, 8, 2, 2)
    draw = latent_batches(latents, text, empty, 32, seed=0, buckets=(3, 1))
    assert draw(0)["latent"].shape[1] == 3 and draw(1)["latent"].shape[1] == 1
    dropped = [(~draw(s)["mask"][:, 1]).float().mean().item() for s in range(100)]
    assert abs(sum(dropped) / 100 - 0.1) < 0.03
    out = drop_prompts(text.batch(), empty, step=0, share=1.0)
    assert torch.equal(out["clip"], empty.clip.expand_as(out["clip"]))
    assert torch.equal(draw(5)["latent"], draw(5)["latent"])


def test_parts_of_a_batch_drop_what_the_whole_would():
    encoder = WordTables()
    text, empty = encoder(["a red star"] * 64), encoder([""])
    whole = drop_prompts(text.batch(), empty, 7, share=0.5)["mask"]
    parts = [drop_prompts(text[:32].batch(), empty, 7, share=0.5, part=(i, 2)) for i in (0, 1)]
    assert torch.equal(torch.cat([part["mask"] for part in parts]), whole)
    assert not torch.equal(parts[0]["mask"], parts[1]["mask"])


def test_batches_of_clips_and_of_pictures_take_turns():
    video = torch.arange(17, dtype=torch.uint8).view(1, 17, 1, 1, 1).repeat(4, 1, 3, 2, 2)
    batch = video_batches(video * 15, 2)(0)["video"]
    assert batch.shape == (2, 17, 3, 2, 2) and 0.8 < batch.max() <= 1
    draw = video_batches(video, 2, pictures=3)
    assert draw(0)["video"].shape == (3, 1, 3, 2, 2) and draw(1)["video"].shape[:2] == (2, 17)
    values = {float(v) for step in range(0, 40, 2) for v in draw(step)["video"].flatten()}
    assert len(values) > 12, "pictures come from all places of a clip"
    assert torch.equal(draw(4)["video"], draw(4)["video"])
