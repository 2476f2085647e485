"""What the book's presets listen to: clips of procedural music with everything known about them."""

from dataclasses import fields

import torch
from torch import Tensor

from gentok.data import Music, render_music, sample_music
from gentok.data.music import LOUDNESS

MELODY_AND_BASS = (0.8, 0.0, 0.0, 1.0)  # loudness of bass, tenor, alto and melody
EIGHTHS = 16  # composed; a clip of 1.5 s ends before they do


def compose(
    n: int, seed: int, length: int, rate: int, loudness: tuple[float, ...] = LOUDNESS
) -> tuple[Music, Tensor]:
    """``n`` clips of procedural music and their sound, (n, ``length``) at ``rate`` Hertz."""
    music = sample_music(n, steps=EIGHTHS, seed=seed)
    parts = []
    for first in range(0, n, 32):  # more at once would not fit the processor's cache
        rows = {f.name: getattr(music, f.name)[first : first + 32] for f in fields(music)}
        parts.append(render_music(Music(**rows), length / rate, rate, loudness))
    return music, torch.cat(parts)


def tunes(n: int, seed: int, length: int, rate: int) -> tuple[Music, Tensor]:
    """As :func:`compose`, two voices: a melody over a bass. Easy enough for a study of minutes."""
    return compose(n, seed, length, rate, MELODY_AND_BASS)
