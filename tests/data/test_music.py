"""Music: the sound holds the notes, and the notes belong to the key."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data import render_music, sample_music
from gentok.data.music import INSTRUMENTS, KEYS, LOUDNESS, MODES, TONICS, VOICES, frequency

RATE = 16000


@pytest.fixture(scope="module")
def music():
    return sample_music(60, steps=16, seed=2)


def spectrum(wave: torch.Tensor) -> torch.Tensor:
    """Amplitudes with one bin a Hertz and a half (zero-padded, Hann window)."""
    window = torch.hann_window(len(wave))
    return torch.fft.rfft(wave * window, n=RATE * 2).abs()  # bin width 0.5 Hz


def test_spectrum_peaks_at_the_notes(music):
    """In the first chord, each sounding f0 is a local peak above its neighbouring semitones."""
    waves = render_music(music, seconds=1.2, rate=RATE)
    checked = 0
    for i in range(len(music)):
        held = [n for n in music.notes(i) if n["onset"] == 0 and n["duration"] > 0.7]
        if len(held) < 3:
            continue
        length = int(min(n["duration"] for n in held) * RATE)
        found = spectrum(waves[i, :length])
        partials = {
            round(float(frequency(torch.tensor(n["pitch"]))) * h)
            for n in music.notes(i)
            if n["onset"] < length / RATE
            for h in range(1, 7)
        }
        for note in held:
            f0 = float(frequency(torch.tensor(note["pitch"])))
            around = found[int((f0 - 2.5) * 2) : int((f0 + 2.5) * 2) + 1]
            peak = float(around.max())
            for neighbour in (f0 * 2 ** (0.5 / 12), f0 * 2 ** (-0.5 / 12)):
                if min(abs(neighbour - p) for p in partials) > 4 and abs(neighbour - f0) > 4:
                    assert peak > 3 * float(found[round(neighbour * 2)])
                    checked += 1
    assert checked > 50


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_one_note_has_its_instrument_s_harmonics(name):
    music = sample_music(40, steps=4, seed=3)
    i = int((music.instrument == list(INSTRUMENTS).index(name)).nonzero()[0])
    music.pitch[i] = 69  # all voices in unison on A4 = 440 Hz
    music.onset[i] = 0
    wave = render_music(music, seconds=4 * float(music.step[i]), rate=RATE)[i]
    found = spectrum(wave)
    peaks = torch.tensor([float(found[880 * h - 8 : 880 * h + 9].max()) for h in range(1, 7)])
    weights = torch.tensor(INSTRUMENTS[name][0])
    assert torch.allclose(peaks / peaks[0], weights / weights[0], atol=0.02)
    between = found[1320 - 40 : 1320 + 40].max()  # 660 Hz
    assert float(between) < 0.01 * float(peaks[0])


def test_pitches_belong_to_the_key(music):
    for i, caption in enumerate(music.captions):
        tonic, mode = KEYS[int(music.key[i])].split()
        scale = {(TONICS.index(tonic) + s) % 12 for s in MODES[mode]}
        assert {p % 12 for p in music.pitch[i].flatten().tolist()} <= scale
        assert f"in {tonic} {mode} at" in caption
        # The first chord is the tonic triad: its bass note is the tonic.
        assert int(music.pitch[i, 0, 0]) % 12 == TONICS.index(tonic)


def test_chords_are_triads_and_melody_moves_by_step(music):
    for i in range(len(music)):
        mode = KEYS[int(music.key[i])].split()[1]
        tonic = int(music.key[i]) % 12
        scale = [(tonic + s) % 12 for s in MODES[mode]]
        for t in range(16):
            root = int(music.chord[i, t])
            triad = [scale[(root + k) % 7] for k in (0, 4, 2)]
            assert (music.pitch[i, :3, t] % 12).tolist() == triad
        melody = music.pitch[i, 3]
        step = (melody[1:] - melody[:-1]).abs().view(-1)
        inside = torch.arange(1, 16) % 4 != 0
        assert int(step[inside].max()) <= 3
        assert all(
            int(melody[t]) % 12 in [scale[(int(music.chord[i, t]) + k) % 7] for k in (0, 2, 4)]
            for t in range(0, 16, 4)
        )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_note_list_and_grid_say_the_same(seed):
    music = sample_music(1, steps=8, seed=seed)
    step = float(music.step[0])
    grid = torch.full((4, 8), -1)
    for note in music.notes(0):
        first, count = round(note["onset"] / step), round(note["duration"] / step)
        voice = VOICES.index(note["voice"])
        assert bool((grid[voice, first : first + count] == -1).all())
        grid[voice, first : first + count] = note["pitch"]
    assert torch.equal(grid, music.pitch[0])


def test_sound_is_in_range_and_ends_with_the_clip(music):
    waves = render_music(music, seconds=8.0, rate=8000)
    assert waves.shape == (60, 64000) and waves.dtype == torch.float32
    assert 0.1 < float(waves.abs().max()) <= 1
    for wave, step in zip(waves, music.step.tolist(), strict=True):
        end = int(16 * step * 8000) + 1
        assert float(wave[end:].abs().max()) == 0


def test_no_harmonic_above_half_the_rate():
    """The same clip at two rates has the same spectrum: nothing is folded back."""
    music = sample_music(8, seed=4)
    low, high = render_music(music, 1.0, 4000), render_music(music, 1.0, 16000)
    a, b = torch.fft.rfft(low).abs() / 4000, torch.fft.rfft(high).abs()[:, :1800] / 16000
    assert float((a[:, :1800] - b).abs().max()) < 0.05 * float(b.max())


def test_clips_are_reproducible():
    a, b = sample_music(3, seed=5), sample_music(3, seed=5)
    assert torch.equal(a.pitch, b.pitch) and a.captions == b.captions
    assert torch.equal(render_music(a, 0.5), render_music(b, 0.5))


@pytest.mark.parametrize(
    "call",
    [
        lambda: sample_music(0),
        lambda: sample_music(1, steps=6),
        lambda: render_music(sample_music(1), seconds=0.0),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError, match="got"):
        call()


def test_voices_add_up_and_may_be_left_out(music):
    """The sound of all voices is the sum of the sounds of each, by their shares of loudness."""
    alone = [
        render_music(music, 0.5, 4000, tuple(float(i == voice) for i in range(4)))
        for voice in range(4)
    ]
    together = sum(share * wave for share, wave in zip(LOUDNESS, alone, strict=True))
    torch.testing.assert_close(
        together / sum(LOUDNESS), render_music(music, 0.5, 4000), rtol=0, atol=1e-6
    )
    assert float(alone[0].abs().max()) > 0.1
    for wrong in ((1.0, 1.0), (0.0,) * 4, (1.0, -1.0, 0.0, 0.0)):
        with pytest.raises(ValueError, match="loudness must hold 4 numbers"):
            render_music(music, 0.5, 4000, wrong)
