"""The examination: labels are those of the notes, and who knows them gets full marks."""

from dataclasses import replace

import pytest
import torch

from gentok.nn.spectrogram import ConstantQ
from gentok.signals.mert import spectral_codec
from gentok.signals.mert.judging import QUESTIONS, Exam, spectral_errors, untrained
from gentok.signals.mert.model import PRESETS
from gentok.signals.mert.tunes import EIGHTHS, MELODY_AND_BASS, compose, tunes

CONFIG = replace(PRESETS["study"], conv_channels=8, dim=16, depth=1, num_heads=2)
CLIPS = 72


@pytest.fixture(scope="module")
def exam():
    return Exam(*tunes(CLIPS, 1, CONFIG.clip, CONFIG.rate), CONFIG)


class Knowing(torch.nn.Module):
    """A student that knows the answer to question i in layer i + 1, and nothing in layer 0."""

    def __init__(self, exam):
        super().__init__()
        self.exam, self.heard = exam, {}
        for i, wave in enumerate(exam.wave):
            self.heard[wave.numpy().tobytes()] = i
        for i, wave in enumerate(exam.noisy):
            self.heard[wave.numpy().tobytes()] = exam.cuts[2].start + i

    def encode(self, x):
        index = [self.heard[wave.numpy().tobytes()] for wave in x]
        frames = CONFIG.num_frames(CONFIG.clip)
        layers = [torch.zeros(len(x), frames, 24)]
        for name in QUESTIONS:
            hot = torch.nn.functional.one_hot(self.exam.labels[name][index], 24).float()
            known = torch.zeros(len(x), frames, 24)
            if hot.ndim == 2:
                known += hot[:, None]
            else:
                known[:, self.exam.at] = hot
            layers.append(known)
        return torch.stack(layers, 1)


def test_who_knows_the_answers_gets_full_marks(exam):
    found = exam.ask(Knowing(exam))
    for i, name in enumerate(QUESTIONS):
        # Among so few clips a key or a note may be missing from those that train the probe.
        least = 0.4 if name == "key" else 0.9
        assert found[name] == found[f"noisy_{name}"] == found[f"{name}_layers"][i + 1], name
        assert found[name] >= least and found[f"{name}_layers"][0] < 0.6, name
    assert found["pitch"] == pytest.approx((found["bass"] + found["melody"]) / 2)
    assert found["tonal"] == pytest.approx((2 * found["pitch"] + found["key"]) / 3)
    noisy = sum(found[f"noisy_{name}"] for name in QUESTIONS) / 4
    assert found["noisy"] == pytest.approx(noisy)


def test_labels_are_the_notes_that_sound(exam):
    music = tunes(CLIPS, 1, CONFIG.clip, CONFIG.rate)[0]
    for i in (0, 40):
        for j, frame in enumerate(exam.at.tolist()):
            second = frame * CONFIG.stride / CONFIG.rate
            for voice in ("bass", "melody"):
                note = [
                    n
                    for n in music.notes(i)
                    if n["voice"] == voice
                    and n["onset"] <= second + 1e-6 < n["onset"] + n["duration"]
                ]
                assert len(note) == 1
                assert note[0]["pitch"] % 12 == int(exam.labels[voice][i, j])


def test_items_and_noise_are_fixed(exam):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = Exam(*tunes(CLIPS, 1, CONFIG.clip, CONFIG.rate), CONFIG)
    assert torch.equal(torch.get_rng_state(), before), "the page's numbers stay where they are"
    assert torch.equal(again.noisy, exam.noisy)
    test = exam.cuts[2]
    assert not torch.equal(exam.noisy, exam.wave[test]) and test == slice(48, 72)
    assert exam.cuts[:2] == (slice(0, 36), slice(36, 48))
    shorter = Exam(*tunes(CLIPS, 1, CONFIG.clip, CONFIG.rate), CONFIG, test=12)
    assert shorter.cuts[2] == slice(60, 72)


def test_untrained_networks_are_those_that_training_starts_from():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = untrained(CONFIG, 7)
    assert torch.equal(torch.get_rng_state(), before) and not first.training
    torch.manual_seed(7)
    from gentok.signals.mert.model import build

    for name, value in build(CONFIG).state_dict().items():
        assert torch.equal(value, first.state_dict()[name])


def test_errors_of_silence_and_of_the_sound_itself(monkeypatch):
    waves = tunes(3, 2, 8000, 8000)[1]
    codec = spectral_codec.build(spectral_codec.SpectralCodecConfig()).eval()
    constant_q = ConstantQ(8000, 160, 65.41, 60, 12)
    heard = iter([torch.zeros_like(waves), waves, waves, waves])
    monkeypatch.setattr(codec, "decode", lambda codes: next(heard))
    errors = spectral_errors(codec, waves, constant_q)
    assert errors.shape == (4, 60)
    assert errors.sum(1).tolist() == pytest.approx([1, 0, 0, 0], abs=1e-6)


def test_tunes_have_two_voices():
    music, waves = tunes(40, 3, 8000, 8000)
    assert waves.shape == (40, 8000) and music.pitch.shape[2] == EIGHTHS
    same, again = compose(40, 3, 8000, 8000, MELODY_AND_BASS)
    assert torch.equal(again, waves) and torch.equal(same.key, music.key)
