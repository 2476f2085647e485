"""Notes of Standard MIDI Files (MIDI Manufacturers Association 1996, RP-001), and their sound.

`mido` reads the messages; here they become notes in seconds. Sound is additive synthesis by the
timbres of `gentok.data.music`.

Shapes: N notes, L samples.
"""

import io
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path

import mido
import torch
from torch import Tensor

from gentok.data.files import reading
from gentok.data.music import INSTRUMENTS, RELEASE, frequency

TEMPO = 500_000  # microseconds a quarter note until a piece says another
DRUMS = 9  # the channel on which a pitch names a drum (General MIDI; counted from 0)
LONGEST = 6 * 3600.0  # seconds of a piece: a damaged time can be years
LOUD = 0.2  # of one note at full velocity, against the ends of the scale
# The timbre of each family of eight programs (General MIDI 1: pianos, bells, organs, guitars ...).
FAMILIES = (
    *("piano", "piano", "organ", "piano", "piano", "strings", "strings", "clarinet"),
    *("clarinet", "flute", "organ", "strings", "strings", "piano", "piano", "flute"),
)


@dataclass(frozen=True)
class Notes:
    """The notes of a piece, in order of their begin, then of their pitch.

    Attributes:
        pitch: MIDI numbers 0 to 127 (60 is middle C), (N,) int64.
        onset, duration: seconds, (N,) float64.
        velocity: 1 to 127, (N,) int64; ``program``: the instrument, 0 to 127, (N,) int64.
        drum: whether the pitch names a drum, (N,) bool.
    """

    pitch: Tensor = field(repr=False)
    onset: Tensor = field(repr=False)
    duration: Tensor = field(repr=False)
    velocity: Tensor = field(repr=False)
    program: Tensor = field(repr=False)
    drum: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.pitch)

    @property
    def seconds(self) -> float:
        """When the last note ends."""
        return float((self.onset + self.duration).max())


def read_midi(path: Path) -> Notes:
    """The notes of a MIDI file of type 0 or 1.

    A note that is struck again while it sounds ends with the first note-off, as the earlier one; a
    note that is never let go ends with the piece.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, cut short, of type 2, longer than six hours, or has no notes.
    """
    with reading(path, "MIDI file"):
        file = mido.MidiFile(file=io.BytesIO(_tracks_only(path.read_bytes())))
        if file.type not in (0, 1):
            raise ValueError(f"type {file.type}; accepted: 0 and 1, whose tracks sound together")
        rows = _notes(file)
        if not rows:
            raise ValueError("it has no notes")
        onset, pitch, duration, velocity, program, drum = zip(*sorted(rows), strict=True)
        return Notes(
            pitch=torch.tensor(pitch),
            onset=torch.tensor(onset, dtype=torch.float64),
            duration=torch.tensor(duration, dtype=torch.float64),
            velocity=torch.tensor(velocity),
            program=torch.tensor(program),
            drum=torch.tensor(drum),
        )


def _tracks_only(data: bytes) -> bytes:
    """The header and the tracks it states, once the sizes of the chunks are known to be there.

    Chunks of other names may stand between them and are left out, as the specification asks.
    """
    if data[:4] != b"MThd" or len(data) < 14:
        raise ValueError(f"it begins with {data[:4]!r}; accepted: MThd")
    kept, at, wanted = [], 0, 1 + struct.unpack_from(">H", data, 10)[0]
    while len(kept) < wanted:
        if at + 8 > len(data):
            raise ValueError(f"cut short: {wanted - 1} tracks stated, {len(kept) - 1} found")
        name, length = struct.unpack_from(">4sI", data, at)
        chunk = data[at : at + 8 + length]
        if (found := len(chunk) - 8) < length:
            raise ValueError(f"cut short: chunk {name!r} states {length} bytes, has {found}")
        if name == (b"MTrk" if kept else b"MThd"):
            kept.append(chunk)
        at += 8 + length
    return b"".join(kept)


Row = tuple[float, int, float, int, int, bool]  # onset, pitch, duration, velocity, program, drum


def _notes(file: mido.MidiFile) -> list[Row]:
    """Note-ons and note-offs in pairs, their ticks in seconds."""
    now, length = 0.0, _seconds_a_tick(file.ticks_per_beat, TEMPO)
    programs, rows = [0] * 16, []
    sounding: dict[tuple[int, int], list[tuple[float, int, int]]] = {}

    def end(key: tuple[int, int]) -> None:
        onset, velocity, program = sounding[key].pop(0)
        channel, pitch = key
        rows.append((onset, pitch, now - onset, velocity, program, channel == DRUMS))

    for message in file.merged_track:
        now += message.time * length
        if now > LONGEST:
            raise ValueError(f"longer than {LONGEST:g} seconds")
        if message.type == "set_tempo":
            length = _seconds_a_tick(file.ticks_per_beat, message.tempo)
        elif message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type in ("note_on", "note_off"):
            key = message.channel, message.note
            if message.type == "note_on" and message.velocity:
                begun = now, message.velocity, programs[message.channel]
                sounding.setdefault(key, []).append(begun)
            elif sounding.get(key):
                end(key)
    for key, begun in sounding.items():
        for _ in list(begun):
            end(key)
    return rows


def _seconds_a_tick(division: int, tempo: int) -> float:
    """Of the header's division: ticks a quarter note, or frames a second and ticks a frame.

    Args:
        division: as a signed number of 16 bits; below 0 its high byte is minus the frames a second.
        tempo: microseconds a quarter note.
    """
    if division > 0:
        return tempo / 1e6 / division
    frames, ticks = -(division >> 8), division & 0xFF
    if frames not in (24, 25, 29, 30) or not ticks:
        raise ValueError(f"{division} ticks a quarter note")
    return 1 / ((30 / 1.001 if frames == 29 else frames) * ticks)


def render_notes(
    notes: Notes, rate: int, start: float = 0.0, seconds: float | None = None
) -> Tensor:
    """Sound of a piece, (L,) float32 in [-1, 1]; drums are left out.

    Where many notes sound at once the whole is made softer, so that nothing is cut off.

    Args:
        notes: of `read_midi`.
        rate: samples a second.
        start: where the sound begins, in seconds; ``seconds``: how long it is, to the end if None.

    Raises:
        ValueError: if there would be no sample.
    """
    seconds = notes.seconds - start if seconds is None else seconds
    count = round(seconds * rate)
    if count < 1:
        raise ValueError(f"rate and seconds must be above 0, got {rate} and {seconds}")
    wave = torch.zeros(count)
    ends = notes.onset + notes.duration
    heard = (notes.onset < start + seconds) & (ends > start) & ~notes.drum
    for i in heard.nonzero().flatten().tolist():
        onset, duration = float(notes.onset[i]), float(notes.duration[i])
        first = max(0, math.ceil((onset - start) * rate))
        last = min(count, math.ceil((onset + duration - start) * rate))
        since = start - onset + torch.arange(first, last, dtype=torch.float64) / rate
        timbre = FAMILIES[int(notes.program[i]) // 8]
        loud = LOUD * int(notes.velocity[i]) / 127
        wave[first:last] += loud * _tone(int(notes.pitch[i]), since, duration, timbre, rate)
    return wave / wave.abs().max().clamp_min(1.0)


def _tone(pitch: int, since: Tensor, duration: float, timbre: str, rate: int) -> Tensor:
    """One note at the times ``since`` its begin: harmonics below half the rate in an envelope."""
    weights, attack, decay = INSTRUMENTS[timbre]
    f0 = float(frequency(torch.tensor(float(pitch))))
    wave = sum(
        weight * torch.sin(2 * math.pi * h * f0 * since)
        for h, weight in enumerate(weights, 1)
        if h * f0 < rate / 2
    )
    rise = (since / attack).clamp(0, 1) * ((duration - since) / RELEASE).clamp(0, 1)
    return (wave * rise * torch.exp(-decay * since) / sum(weights)).float()
