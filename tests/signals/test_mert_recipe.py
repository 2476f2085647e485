"""`gentok train mert` and `gentok sample mert`, as small as they go."""

import wave
from dataclasses import replace

import mido
import pytest
import torch
from PIL import Image
from tests.signals.test_mert_codec import tiny_encodec

from gentok.data import render_music, sample_music
from gentok.show.media import save_wav
from gentok.signals.mert import recipe
from gentok.signals.mert.model import MERT, PRESETS
from gentok.training.checkpoint import load_checkpoint
from gentok.training.profiles import Profile
from gentok.training.stages import stage

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(PRESETS["tiny"], conv_channels=8, dim=16, depth=1)


def test_clips_are_composed_as_the_generator_does():
    music, waves = recipe.compose(40, seed=3, length=1600, rate=8000)
    assert torch.equal(waves, render_music(sample_music(40, 16, 3), 0.2, 8000))
    assert len(music) == 40


@pytest.mark.parametrize(
    "name, lr, clip, rows", [("mert-95m", 5e-4, 10.0, 1024), ("mert-330m", 1.5e-3, 1.0, 3584)]
)
def test_published_plans_are_the_released_ones(name, lr, clip, rows):
    stage = recipe.plan(name, Profile("gpu", (0,), "cuda")).student
    assert (stage.lr, stage.clip, stage.batch_size) == (lr, clip, rows)
    assert (stage.betas, stage.eps, stage.weight_decay) == ((0.9, 0.98), 1e-6, 0.01)
    assert (stage.steps, stage.warmup, stage.schedule) == (400_000, 32_000, "linear")


@pytest.mark.slow
def test_train_resume_and_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "mert.safetensors"
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, MERT) and not network.training
    assert out.is_file() and stage(out, "codec").is_file()
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert load_checkpoint(out)[1]["step"] == 4
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in pictures:
        recipe.sample(out, path, n=2, seed=1)
    with Image.open(pictures[0]) as first, Image.open(pictures[1]) as second:
        assert first.size[0] > 400 and first.tobytes() == second.tobytes()
    with wave.open(str(tmp_path / "a.wav")) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 2 * 2 * 12_000)


def test_plans_of_the_book_s_presets():
    """One plan for chapter, studies and command; the deep one differs in depth, steps and rows."""
    level = Profile("study", (0,), "cpu")
    study, deep, world = (recipe.plan(name, level) for name in ("study", "deep", "world"))
    assert {task.data for task in (study, deep, world)} == {"tunes"}
    assert deep.student.lr == study.student.lr and deep.size.depth > study.size.depth
    assert replace(deep.size, depth=study.size.depth) == study.size
    assert replace(deep, size=study.size, student=study.student) == study
    kept = recipe.plan("world", Profile("long", (0,), "cpu"))
    assert kept.student.steps > 5 * study.student.steps and kept.clips > study.clips
    for task in (study, world):
        config, codec = task.size, task.codec_size
        assert (config.rate, config.stride) == (codec.rate, codec.hop)
        assert config.num_codebooks == codec.num_codebooks
        assert config.codebook_size == codec.codebook_size


@pytest.mark.slow
def test_weights_are_made_of_both_networks_and_measured(tmp_path, monkeypatch):
    small = replace(PRESETS["study"], conv_channels=8, dim=16, depth=1)
    monkeypatch.setitem(PRESETS, "study", small)
    monkeypatch.setattr(recipe, "PROBED", 60)
    out = tmp_path / "mert.safetensors"
    recipe.train("study", SMOKE, out=out, resume=False, seed=0)
    system = recipe.Listener(**recipe.WEIGHTS.collect(out)).eval()
    wave = 0.1 * torch.randn(2, 12_000)
    assert system.encode(wave).shape == (2, 2, 73, 16)
    assert system.resynthesise(wave, 2).shape == (2, 12_000)
    found = recipe.measure(system, 30)
    assert found == recipe.measure(system, 30), "not repeatable"
    assert len(found) == 12 and all(v >= 0 for v in found.values())
    recipe.sample(out, tmp_path / "a.png", n=1, seed=0)
    assert (tmp_path / "a.wav").is_file()


def test_published_presets_ask_for_their_recordings(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="recordings of music at 24 kHz"):
        recipe.train("mert-95m", SMOKE, out=None, resume=False, seed=0)


@pytest.mark.slow
def test_published_plan_reads_recordings_and_encodec(monkeypatch, tmp_path):
    """The layout of 95M, thinner: seven convolutions, eight codes, 336 bins; WAV and MIDI files."""
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    (tmp_path / "music").mkdir()
    save_wav(tmp_path / "music" / "a.wav", 0.1 * torch.randn(26_000), 24_000)
    notes = [mido.Message("note_on", note=60), mido.Message("note_off", note=60, time=1200)]
    mido.MidiFile(tracks=[mido.MidiTrack(notes)]).save(tmp_path / "music" / "b.mid")  # 1.25 seconds
    tiny_encodec(tmp_path / "encodec_24khz")
    config = replace(
        PRESETS["mert-95m"], conv_channels=8, dim=32, num_heads=2, depth=1, clip=24_000
    )
    monkeypatch.setitem(PRESETS, "mert-95m", config)
    network = recipe.train("mert-95m", SMOKE, out=None, resume=False, seed=0)
    assert network.encode(torch.zeros(1, 24_000)).shape == (1, 2, 74, 32)
    length, crop = recipe._recording(tmp_path / "music" / "b.mid", config)
    assert length == 30_000 and crop(6_000).shape == (24_000,) and crop(6_000).abs().max() > 0.01
    save_wav(tmp_path / "music" / "a.wav", 0.1 * torch.randn(26_000), 16_000)
    with pytest.raises(ValueError, match="at 24000 Hz, got 26000 at 16000 Hz"):
        recipe.train("mert-95m", SMOKE, out=None, resume=False, seed=0)


def test_sampling_without_a_checkpoint_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        recipe.sample(tmp_path / "absent.safetensors", tmp_path / "a.png", n=1, seed=0)
