"""MIDI files, written byte by byte as the specification says, and as mido writes them."""

import io
import struct

import mido
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gentok.data import read_midi, render_notes
from gentok.data.midi import DRUMS, LOUD, Notes

END = b"\x00\xff\x2f\x00"


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack(">I", len(content)) + content


def smf(*tracks: bytes, kind=0, division=96, stated=None) -> bytes:
    head = struct.pack(">HHh", kind, len(tracks) if stated is None else stated, division)
    return chunk(b"MThd", head) + b"".join(chunk(b"MTrk", track + END) for track in tracks)


def put(folder, content, name="a.mid"):
    path = folder / name
    path.write_bytes(content)
    return path


def rows(notes: Notes) -> list[tuple]:
    columns = (notes.pitch, notes.onset, notes.duration, notes.velocity, notes.program, notes.drum)
    return list(zip(*(c.tolist() for c in columns), strict=True))


# Two quarter notes at 120 a minute (96 ticks, half a second), let go by velocity 0 in running
# status; then the tempo doubles, and a third one lasts a quarter second.
TEMPO = b"\x00\xff\x51\x03" + (250_000).to_bytes(3, "big")
RUNNING = (
    b"\x00\xc0\x28"  # violin
    b"\x00\x90\x3c\x40" + b"\x60\x3c\x00" + b"\x00\x40\x50" + b"\x60\x40\x00"
)
FIRST_TWO = [(60, 0.0, 0.5, 64, 40, False), (64, 0.5, 0.5, 80, 40, False)]


def test_running_status_and_a_change_of_tempo(tmp_path):
    third = b"\x00\x90\x43\x7f" + b"\x60\x80\x43\x40"
    notes = read_midi(put(tmp_path, smf(RUNNING + TEMPO + third)))
    assert rows(notes) == [*FIRST_TWO, (67, 1.0, 0.25, 127, 40, False)]
    assert notes.seconds == 1.25 and len(notes) == 3


def test_a_tempo_on_a_track_of_its_own_holds_for_all(tmp_path):
    tempo = b"\x60" + TEMPO[1:]
    notes = read_midi(put(tmp_path, smf(tempo, RUNNING, kind=1)))
    assert rows(notes) == [FIRST_TWO[0], (64, 0.5, 0.25, 80, 40, False)]


def test_tracks_sound_together_and_drums_are_known(tmp_path):
    drum = bytes([0, 0x90 | DRUMS, 36, 100, 0x18, 0x80 | DRUMS, 36, 0])
    notes = read_midi(put(tmp_path, smf(RUNNING, drum, kind=1)))
    assert rows(notes) == [(36, 0.0, 0.125, 100, 0, True), *FIRST_TWO]


def test_notes_struck_again_and_notes_never_let_go(tmp_path):
    """The first off ends the earlier of two; what is left ends with the piece."""
    track = (
        b"\x00\x90\x3c\x40"
        + b"\x60\x3c\x41"
        + b"\x60\x3c\x00"
        + b"\x60\x45\x42"
        + b"\x60\xb0\x07\x7f"
    )
    notes = read_midi(put(tmp_path, smf(track)))
    assert rows(notes) == [
        *((60, 0.0, 1.0, 64, 0, False), (60, 0.5, 1.5, 65, 0, False)),
        (69, 1.5, 0.5, 66, 0, False),
    ]


@pytest.mark.parametrize(
    ("frames", "ticks", "seconds"), [(24, 4, 1 / 96), (25, 40, 1e-3), (29, 80, 1.001 / 2400)]
)
def test_frames_a_second_instead_of_quarter_notes(tmp_path, frames, ticks, seconds):
    """A tempo means nothing then."""
    notes = read_midi(put(tmp_path, smf(TEMPO + RUNNING, division=-frames * 256 + ticks)))
    torch.testing.assert_close(notes.onset[1].item(), 96 * seconds)


def test_chunks_of_other_names_long_headers_and_what_follows_are_passed_over(tmp_path):
    plain = smf(RUNNING)
    head, track = plain[:14], plain[14:]
    other = chunk(b"XFIH", b"\x01\x02\x03")
    content = chunk(b"MThd", head[8:] + b"\0\0") + other + track + b"the end"
    assert rows(read_midi(put(tmp_path, content))) == FIRST_TWO


def test_words_and_sysex_between_notes(tmp_path):
    """Neither keeps a running status: the next message states it again."""
    track = (
        b"\x00\xff\x03\x03\xe9\xff\x00" + b"\x00\xf0\x03\x7e\x00\xf7" + RUNNING[:7]
        + b"\x00\xff\x58\x04\x03\x02\x18\x08" + b"\x60\x90\x3c\x00"
    )  # fmt: skip
    assert rows(read_midi(put(tmp_path, smf(track)))) == FIRST_TWO[:1]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 127), st.integers(0, 500), st.integers(1, 300)),
        min_size=1, max_size=20, unique_by=lambda note: note[0],
    ),
    st.sampled_from([0, 1]),
)  # fmt: skip
def test_what_mido_writes(tmp_path, notes, kind):
    """Notes of different pitches come back, whatever way they overlap."""
    events = [(begin, "note_on", pitch) for pitch, begin, _ in notes]
    events += [(begin + length, "note_off", pitch) for pitch, begin, length in notes]
    track, before = mido.MidiTrack(), 0
    for at, what, pitch in sorted(events):
        track.append(mido.Message(what, note=pitch, velocity=9, time=at - before))
        before = at
    stream = io.BytesIO()
    mido.MidiFile(type=kind, ticks_per_beat=500, tracks=[track]).save(file=stream)
    found = read_midi(put(tmp_path, stream.getvalue()))
    ours = sorted((p, round(1000 * b), round(1000 * d)) for p, b, d, *_ in rows(found))
    assert ours == sorted(notes)  # a tick is a millisecond


REFUSED = {
    "empty": b"",
    "other": b"RIFF\0\0\0\0RMIDdata",
    "head": smf(RUNNING)[:10],
    "cut": smf(RUNNING)[:-3],
    "few": smf(RUNNING, stated=2, kind=1),
    "kind": smf(RUNNING, kind=2),
    "strange": smf(RUNNING, kind=7),
    "division": smf(RUNNING, division=0),
    "frames": smf(RUNNING, division=-7 * 256 + 4),
    "silent": smf(b"\x00\xc0\x28"),
    "no_status": smf(b"\x00\x3c\x40"),
    "data": smf(b"\x00\x90\x3c\xc0"),
    "years": smf(b"\x00\x90\x3c\x40\xff\xff\xff\x7f\x3c\x00"),
    "short_track": smf(RUNNING).replace(
        struct.pack(">I", len(RUNNING + END)), struct.pack(">I", len(RUNNING) - 1)
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name}\.mid is not a readable MIDI") as caught:
        read_midi(put(tmp_path, REFUSED[name], f"{name}.mid"))
    assert "\n" not in str(caught.value)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_read_right_or_refused_by_name(tmp_path, draw):
    content = smf(TEMPO, RUNNING, kind=1)
    at = draw.draw(st.integers(0, len(content) - 1))
    if draw.draw(st.booleans()):
        content = content[:at] + draw.draw(st.binary(max_size=4))
    else:
        flipped = content[at] ^ (1 << draw.draw(st.integers(0, 7)))
        content = content[:at] + bytes([flipped]) + content[at + 1 :]
    path = put(tmp_path, content)
    try:
        notes = read_midi(path)
    except ValueError as error:
        assert path.name in str(error) and "\n" not in str(error)
    else:
        assert len(notes) and (notes.onset >= 0).all() and (notes.duration >= 0).all()
        assert notes.pitch.min() >= 0 and notes.pitch.max() < 128 and notes.velocity.min() > 0


RATE = 8000


def one_note(**changes) -> Notes:
    given = {
        "pitch": 69,
        "onset": 0.25,
        "duration": 0.5,
        "velocity": 127,
        "program": 73,
        "drum": False,
    }
    return Notes(**{name: torch.tensor([value]) for name, value in (given | changes).items()})


def test_sound_has_the_pitch_in_its_time():
    wave = render_notes(one_note(), RATE, 0.0, 1.0)
    assert wave.shape == (RATE,) and wave.abs().max() <= LOUD
    assert not wave[: RATE // 4].any() and not wave[3 * RATE // 4 :].any()
    heard = wave[RATE // 4 : 3 * RATE // 4]
    assert int(torch.fft.rfft(heard).abs().argmax()) == 220  # of half a second: 440 Hz
    softer = render_notes(one_note(velocity=64), RATE, 0.0, 1.0)
    torch.testing.assert_close(softer, wave * 64 / 127)


def test_a_crop_is_a_part_of_the_whole():
    whole, crop = render_notes(one_note(), RATE), render_notes(one_note(), RATE, 0.3, 0.2)
    assert whole.shape == (6000,)
    torch.testing.assert_close(crop, whole[2400:4000], rtol=0, atol=1e-5)


def test_drums_are_silent_and_many_notes_stay_in_range():
    assert not render_notes(one_note(drum=True), RATE).any()
    many = one_note()
    chord = Notes(*(getattr(many, name).repeat(30) for name in Notes.__dataclass_fields__))
    assert render_notes(chord, RATE).abs().max() <= 1.0 + 1e-6
    with pytest.raises(ValueError, match="rate and seconds must be above 0"):
        render_notes(one_note(), RATE, start=2.0)
