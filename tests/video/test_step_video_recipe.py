"""`gentok train step_video` and `gentok sample step_video`, as small as they go."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from gentok.training.checkpoint import load_checkpoint
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.video.step_video import recipe
from gentok.video.step_video.batches import drop_prompts, latent_batches, video_batches
from gentok.video.step_video.folder_clips import clip_batches
from gentok.video.step_video.model import PRESETS, StepVideo
from gentok.video.step_video.text_encoders import WordTables

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(PRESETS["tiny"], depth=1, num_heads=2, head_dim=8, num_steps=2)


@pytest.mark.slow
def test_train_resume_and_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "step.safetensors"
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, StepVideo) and not network.training
    for name in ("tokenizer", "t2i", "dpo"):
        assert stage(out, name).is_file()
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    tensors, _ = load_checkpoint(stage(out, "dpo"))
    assert any(name.startswith("model.reference.") for name in tensors)
    clips = [tmp_path / "a.gif", tmp_path / "b.gif"]
    for path in clips:
        recipe.sample(out, path, n=2, seed=1)
    assert clips[0].read_bytes() == clips[1].read_bytes()
    with Image.open(clips[0]) as first:
        assert first.n_frames > 1


def test_the_published_size_asks_for_its_data(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="clips for Step-Video not found"):
        recipe.train("step-video-t2v", SMOKE, out=None, resume=False, seed=0)
    with pytest.raises(FileNotFoundError, match="text encoders not found"):
        recipe._encoder(PRESETS["step-video-t2v"])


def test_clips_of_a_folder(tmp_path):
    for name, frames in (("one", 3), ("two", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "caption.txt").write_text(f"clip {name}")
        for i in range(frames):
            Image.new("RGB", (40, 20), (50 * i, 0, 0)).save(tmp_path / name / f"{i}.png")
    draw = clip_batches(tmp_path, 4, (1, 4), 16, 32, seed=0)
    pictures, captions = draw(0)
    assert pictures.shape == (4, 1, 3, 16, 32) and set(captions) <= {"clip one", "clip two"}
    video, captions = draw(1)
    assert video.shape == (4, 4, 3, 16, 32) and torch.equal(video, draw(1)[0])
    red = video[:, :, 0, 0, 0]
    assert (red.diff(dim=1)[:, :2] > 0).all()
    short = [i for i, caption in enumerate(captions) if caption == "clip one"]
    assert all(red[i, 3] == red[i, 2] for i in short), "a short clip holds its last frame"
    with pytest.raises(FileNotFoundError, match="no <clip>/caption.txt"):
        clip_batches(tmp_path / "one", 1, (1,), 16, 16, 0)


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


def test_batches_of_clips_and_of_pictures_take_turns():
    video = torch.arange(17, dtype=torch.uint8).view(1, 17, 1, 1, 1).repeat(4, 1, 3, 2, 2)
    batch = video_batches(video * 15, 2)(0)["video"]
    assert batch.shape == (2, 17, 3, 2, 2) and 0.8 < batch.max() <= 1
    draw = video_batches(video, 2, pictures=3)
    assert draw(0)["video"].shape == (3, 1, 3, 2, 2) and draw(1)["video"].shape[:2] == (2, 17)
    values = {float(v) for step in range(0, 40, 2) for v in draw(step)["video"].flatten()}
    assert len(values) > 12, "pictures come from all places of a clip"
    assert torch.equal(draw(4)["video"], draw(4)["video"])
