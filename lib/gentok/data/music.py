"""Procedural music: four voices with known key, chords, notes and instrument, and their sound.

A clip is a row of eighth notes. Bass, tenor and alto hold the chord of each half bar; the melody
moves by step through the key and lands on chord tones with each new chord. Sound is additive
synthesis: a note is a sum of harmonics h * f0 with the instrument's weights, in its envelope.

Pitches are MIDI numbers (60 is middle C, 69 is A4 = 440 Hz). Shapes: n clips, 4 voices (bass,
tenor, alto, melody), S eighth notes, L samples.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gentok.data.imageset import generator

VOICES = ("bass", "tenor", "alto", "melody")
LOUDNESS = (0.8, 0.5, 0.5, 1.0)  # of the voices
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MODES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}  # semitones above tonic
KEYS = tuple(f"{tonic} {mode}" for mode in MODES for tonic in TONICS)
PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3), (0, 3, 0, 4), (0, 1, 4, 0))  # degrees
HOLD = 4  # eighth notes a chord lasts
# name: weights of the harmonics, attack in seconds, decay rate in 1 / second
INSTRUMENTS: dict[str, tuple[tuple[float, ...], float, float]] = {
    "organ": ((1.0, 0.8, 0.1, 0.6, 0.05, 0.3), 0.02, 0.0),
    "flute": ((1.0, 0.25, 0.06, 0.02, 0.0, 0.0), 0.06, 0.0),
    "clarinet": ((1.0, 0.05, 0.7, 0.05, 0.45, 0.03), 0.03, 0.0),
    "strings": ((1.0, 0.7, 0.55, 0.45, 0.35, 0.25), 0.09, 0.0),
    "piano": ((1.0, 0.6, 0.35, 0.2, 0.1, 0.05), 0.005, 3.0),
}
RELEASE = 0.03  # seconds a note fades before its end


@dataclass(frozen=True)
class Music:
    """A batch of clips.

    Attributes:
        pitch: MIDI numbers, (n, 4, S) int64.
        onset: index of the eighth note in which the sounding note began, (n, 4, S) int64.
        key: index into KEYS, (n,); ``instrument``: index into INSTRUMENTS, (n,).
        chord: degree of the chord's root in the key, 0 for the tonic, (n, S) int64.
        step: length of an eighth note in seconds, (n,).
    """

    pitch: Tensor
    onset: Tensor
    key: Tensor
    instrument: Tensor
    chord: Tensor
    step: Tensor

    def __len__(self) -> int:
        return len(self.pitch)

    @property
    def captions(self) -> tuple[str, ...]:
        """One sentence a clip: instrument, key and tempo in quarter notes a minute."""
        names, tempo = tuple(INSTRUMENTS), (30 / self.step).round().int().tolist()
        return tuple(
            f"{names[i]} in {KEYS[k]} at {t} beats per minute"
            for i, k, t in zip(self.instrument.tolist(), self.key.tolist(), tempo, strict=True)
        )

    def notes(self, index: int) -> list[dict]:
        """The notes of one clip in order of time: voice, pitch, onset and duration in seconds."""
        found, step = [], float(self.step[index])
        for voice, name in enumerate(VOICES):
            starts, counts = self.onset[index, voice].unique(return_counts=True)
            for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
                pitch = int(self.pitch[index, voice, start])
                note = {"voice": name, "pitch": pitch}
                found.append(note | {"onset": start * step, "duration": count * step})
        return sorted(found, key=lambda note: (note["onset"], note["pitch"]))


def frequency(pitch: Tensor) -> Tensor:
    """Hertz of MIDI pitches, equal temperament with A4 = 440 Hz."""
    return 440.0 * torch.exp2((pitch - 69) / 12)


def scale_of(key: Tensor) -> Tensor:
    """Semitones above C of the seven degrees of keys (n,): (n, 7), tonic first, not wrapped."""
    steps = torch.tensor(list(MODES.values()))  # (2, 7)
    return steps[key // 12] + (key % 12)[:, None]


def _chord_pitch(scale: Tensor, degree: Tensor, low: int) -> Tensor:
    """The lowest MIDI pitch from ``low`` up that has the name of a scale degree, (n, S)."""
    semitones = scale.gather(1, degree.remainder(7))
    return low + (semitones - low).remainder(12)


def _melody_pitch(scale: Tensor, degree: Tensor, low: int) -> Tensor:
    """MIDI pitch of scale degrees (n, S) counted up from the lowest tonic at or above ``low``."""
    tonic = scale[:, :1]
    above = scale.gather(1, degree.remainder(7)) - tonic
    octave = torch.div(degree, 7, rounding_mode="floor")
    return low + (tonic - low).remainder(12) + above + 12 * octave


def sample_music(n: int, steps: int = 16, seed: int = 0) -> Music:
    """Compose clips.

    Args:
        n: number of clips.
        steps: S eighth notes, a multiple of 4 (16 are two bars).
        seed: the same seed gives the same clips.

    Raises:
        ValueError: if ``n`` < 1 or ``steps`` is not a positive multiple of 4.
    """
    if n < 1 or steps < HOLD or steps % HOLD:
        raise ValueError(f"need n >= 1 and steps a multiple of {HOLD}, got {n} and {steps}")
    rng = generator(seed)
    key = torch.randint(len(KEYS), (n,), generator=rng)
    scale = scale_of(key)
    progression = torch.tensor(PROGRESSIONS)[torch.randint(len(PROGRESSIONS), (n,), generator=rng)]
    time = torch.arange(steps)
    chord = progression[:, (time // HOLD) % 4]  # (n, S)
    held = (time // HOLD * HOLD).expand(n, -1)
    # Melody: at each chord a chord tone, between them a walk by step through the scale.
    moves = torch.randint(-1, 2, (n, steps), generator=rng)
    tone = 2 * torch.randint(3, (n, steps), generator=rng)  # root, third or fifth
    degrees = [chord[:, 0] + tone[:, 0]]
    for t in range(1, steps):
        land = chord[:, t] + tone[:, t]
        degrees.append(land if t % HOLD == 0 else degrees[-1] + moves[:, t])
    melody = torch.stack(degrees, 1).clamp(0, 13)  # within two octaves
    voices = [
        _chord_pitch(scale, chord, 36),
        _chord_pitch(scale, chord + 4, 48),  # fifth
        _chord_pitch(scale, chord + 2, 57),  # third
        _melody_pitch(scale, melody, 64),
    ]
    pitch = torch.stack(voices, 1)  # (n, 4, S)
    again = torch.zeros_like(pitch[:, 3], dtype=torch.bool)  # a repeated melody note is held
    again[:, 1:] = (pitch[:, 3, 1:] == pitch[:, 3, :-1]) & (time[1:] % HOLD != 0)
    began = torch.where(again, 0, time).cummax(1).values
    return Music(
        pitch=pitch,
        onset=torch.stack([held, held, held, began], 1),
        key=key,
        instrument=torch.randint(len(INSTRUMENTS), (n,), generator=rng),
        chord=chord,
        step=30 / torch.randint(90, 151, (n,), generator=rng),
    )


def render_music(
    music: Music,
    seconds: float = 2.0,
    rate: int = 16000,
    loudness: tuple[float, ...] = LOUDNESS,
) -> Tensor:
    """Sound of the clips: (n, L) float32 in [-1, 1], L = seconds * rate.

    Harmonics above half the rate are left out. A clip shorter than ``seconds`` ends in silence.

    Args:
        music: n clips.
        seconds: length; ``rate``: samples a second, Hertz.
        loudness: of each of the four voices, at least 0; 0 leaves a voice out.

    Raises:
        ValueError: if there would be no sample, or no voice.
    """
    length = round(seconds * rate)
    if length < 1 or rate < 1:
        raise ValueError(f"seconds and rate must be above 0, got {seconds} and {rate}")
    if len(loudness) != len(VOICES) or min(loudness) < 0 or not any(loudness):
        raise ValueError(f"loudness must hold {len(VOICES)} numbers from 0 up, got {loudness}")
    weights = torch.tensor([w for w, _, _ in INSTRUMENTS.values()])[music.instrument]  # (n, 6)
    shape = torch.tensor([(a, d) for _, a, d in INSTRUMENTS.values()])[music.instrument]
    attack, decay = shape[:, 0, None], shape[:, 1, None]
    steps = music.pitch.shape[2]
    time = torch.arange(length) / rate  # (L,) seconds
    at = (time / music.step[:, None]).long()  # (n, L), which eighth note
    sounds, at = at < steps, at.clamp_max(steps - 1)
    wave = torch.zeros(len(music), length)
    for voice, loud in enumerate(loudness):
        if not loud:
            continue
        start = music.onset[:, voice].gather(1, at)  # (n, L)
        held = music.onset[:, voice, :, None] == music.onset[:, voice, None]  # (n, S, S)
        end = (music.onset[:, voice] + held.sum(2)).gather(1, at) * music.step[:, None]
        since = time - start * music.step[:, None]  # seconds since the note began
        rise = (since / attack).clamp(0, 1) * ((end - time) / RELEASE).clamp(0, 1)
        envelope = rise * torch.exp(-decay * since) * sounds * loud
        f0 = frequency(music.pitch[:, voice]).gather(1, at)  # (n, L)
        wave += envelope * _harmonics(f0, since, weights, rate)
    return wave / (sum(loudness) * weights.sum(1, keepdim=True))  # no clip can exceed 1


def _harmonics(f0: Tensor, since: Tensor, weights: Tensor, rate: int) -> Tensor:
    """Sum over h of weights[h] * sin(2 pi h f0 t), (n, L)."""
    # sin(h a) = 2 cos(a) sin((h - 1) a) - sin((h - 2) a): two sines instead of six
    angle = 2 * math.pi * (f0 * since).frac()
    twice, before, now = 2 * angle.cos(), torch.zeros_like(angle), angle.sin()
    total = torch.zeros_like(angle)
    for h in range(1, weights.shape[1] + 1):
        total += weights[:, h - 1, None] * now * (h * f0 < rate / 2)
        before, now = now, twice * now - before
    return total
