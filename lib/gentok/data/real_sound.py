"""Recorded speech and composed music, from the folder GENTOK_DATA or from the hub.

Spoken digits: the Free Spoken Digit Dataset (Jackson et al.), 3,000 recordings at 8 kHz. Chorales:
382 four-part chorales by J. S. Bach on a grid of sixteenth notes (Boulanger-Lewandowski et al.
2012; the separated form of the JSB-Chorales-dataset).
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentok.data import folder
from gentok.data.files import reading
from gentok.data.real_images import check_split, class_labels, contents, read_parquet

CHORALES = "chorales/Jsb16thSeparated.npz"
PCM, EXTENSIBLE = 1, 0xFFFE  # format tags of WAV: plain samples; the true tag stands further on


@dataclass(frozen=True)
class Sounds:
    """Recordings of different lengths.

    Attributes:
        waves: one tensor (L,) each, float32 in [-1, 1].
        rate: samples a second.
        labels: (N,) int64; ``speakers``: a name each; ``source``: in words.
    """

    waves: list[Tensor] = field(repr=False)
    rate: int
    labels: Tensor = field(repr=False)
    speakers: tuple[str, ...] = field(repr=False)
    source: str

    def __len__(self) -> int:
        return len(self.waves)

    def padded(self, length: int) -> Tensor:
        """All recordings cut or filled with silence at the end, (N, length)."""
        out = torch.zeros(len(self), length)
        for row, wave in zip(out, self.waves, strict=True):
            row[: len(wave)] = wave[:length]
        return out


def decode_wav(data: bytes, where: str) -> tuple[Tensor, int]:
    """16-bit mono WAV bytes to samples (L,) in [-1, 1] and the rate.

    Chunks other than the format and the samples are passed over. Programs that write into a pipe
    cannot know the length beforehand and state 0xFFFFFFFF: then the samples end with the file.

    Raises:
        ValueError: if they are damaged, of another kind, without samples or of no rate; ``where``
            names the file.
    """
    found: dict[bytes, bytes] = {}
    with reading(where, "WAV file"):
        for name, content in _chunks(data):
            found.setdefault(name, content)
        if b"fmt " not in found:
            raise ValueError("it has no chunk 'fmt ' before its samples")
        tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", found[b"fmt "])
        if tag == EXTENSIBLE:
            (tag,) = struct.unpack_from("<H", found[b"fmt "], 24)
        frames = found[b"data"]
        if (tag, channels, bits, block) != (PCM, 1, 16, 2) or len(frames) % 2:
            raise ValueError(
                f"format {tag}, {channels} channels of {bits} bits and {len(frames)} bytes; "
                f"accepted: whole samples of 16-bit mono, format {PCM}"
            )
        if not rate or not frames:
            raise ValueError(f"{len(frames) // 2} samples at {rate} a second")
    return torch.from_numpy(np.frombuffer(frames, "<i2").astype(np.float32) / 32768), rate


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the chunks of a RIFF file, up to the samples (Microsoft 1991, RIFF).

    A chunk of odd length is followed by one byte that does not count.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"it begins with {data[:12]!r}; accepted: RIFF and WAVE")
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        content = data[at + 8 : at + 8 + length]
        if len(content) < length and not (name == b"data" and length == 0xFFFFFFFF):
            raise ValueError(f"cut short: chunk {name!r} states {length} bytes, has {len(content)}")
        yield name, content
        if name == b"data":
            return
        at += 8 + length + length % 2
    raise ValueError("cut short: it has no chunk 'data'")


def spoken_digits(download: bool = False) -> Sounds:
    """English digits 0 to 9 spoken by six people, at 8 kHz; the label is the digit.

    Args:
        download: take the hub's copy (`mteb/free-spoken-digit-dataset`) where the folder has none.

    Raises:
        FileNotFoundError: if it is not in the folder and not to be downloaded.
        ValueError: if a file or a recording is damaged.
    """
    relative = "spoken_digits/train.parquet"
    path = folder.find(relative)
    if path is not None:
        table = read_parquet(path, ["audio", "label", "speaker"])
        where = f"{folder.VARIABLE}/{relative}"
    elif download:
        import datasets

        rows = folder.from_hub("mteb/free-spoken-digit-dataset", "train")
        rows = rows.cast_column("audio", datasets.Audio(decode=False))  # plain WAV: decoded here
        table = {"audio": list(rows["audio"]), "label": list(rows["label"])}
        # The recordings are named digit_speaker_number.wav.
        names = [Path(row["path"] or "").stem.split("_") for row in table["audio"]]
        table["speaker"] = [name[1] if len(name) > 1 else "unknown" for name in names]
        where = "the hub's mteb/free-spoken-digit-dataset"
    else:
        raise folder.missing("spoken digits", relative, "spoken_digits(download=True)")
    decoded = [
        decode_wav(data, f"{where}: recording {i}")
        for i, data in enumerate(contents(table["audio"], where))
    ]
    if len(rates := {rate for _, rate in decoded}) != 1:
        raise ValueError(f"{where} must hold recordings of one rate, got {sorted(rates)}")
    labels = class_labels(table["label"], 10, where)
    if not all(isinstance(name, str) for name in table["speaker"]):
        raise ValueError(f"{where} must name the speaker of each recording")
    return Sounds(
        waves=[samples for samples, _ in decoded],
        rate=rates.pop(),
        labels=labels,
        speakers=tuple(table["speaker"]),
        source=f"Free Spoken Digit Dataset, {len(decoded)} recordings, from {where}",
    )


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and nothing else, so that a data file cannot run code."""

    def find_class(self, module: str, name: str):
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in an array")


def _object_array(path: Path, name: str) -> list[np.ndarray]:
    """One array of arrays of different lengths from a .npz file."""
    with reading(path, f"file of chorales ({name})"), zipfile.ZipFile(path) as archive:
        # Read whole, and so held against its checksum, before anything is unpickled.
        stream = io.BytesIO(archive.read(f"{name}.npy"))
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        return list(_ArraysOnly(stream, encoding="latin1").load())


def chorales(split: str = "train") -> list[Tensor]:
    """Bach's chorales as pitches.

    Args:
        split: "train" (229), "valid" (76) or "test" (77).

    Returns:
        One tensor (T, 4) int64 a chorale: a row is a sixteenth note, columns are soprano, alto,
        tenor, bass; values are MIDI pitches, -1 for a rest.

    Raises:
        FileNotFoundError: if the file is not in the folder; it is not on the hub.
        ValueError: if ``split`` is unknown or the file is damaged.
    """
    if split != "valid":
        check_split(split)
    path = folder.find(CHORALES)
    if path is None:
        raise folder.missing("Bach chorales (czhuang/JSB-Chorales-dataset on GitHub)", CHORALES)
    return [
        _pitches(array, f"{path} ({split}, {i})")
        for i, array in enumerate(_object_array(path, split))
    ]


def _pitches(array: np.ndarray, where: str) -> Tensor:
    """Rows of four MIDI pitches, NaN for a rest -> (T, 4) int64, -1 for a rest."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.ndim != 2:
        raise ValueError(f"{where} must be an array of numbers (T, 4)")
    array = np.nan_to_num(array, nan=-1)
    if array.shape[1] != 4 or not len(array) or array.min() < -1 or array.max() > 127:
        raise ValueError(f"{where} must be (T, 4) pitches up to 127, got {array.shape}")
    pitches = array.astype(np.int64)
    if (pitches != array).any():
        raise ValueError(f"{where} must hold whole pitches")
    return torch.from_numpy(pitches)
