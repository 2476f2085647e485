"""Rows of the readers: files of a kind from the bytes on the disk to tensors, beside a plain loop.

The files are made once in a temporary folder. Ours hold each file against its limits; the peers
read what they are given.
"""

import io
import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.measure import Work, Workload
from gentok import data
from gentok.data import folder
from gentok.data.mesh_files import read_mesh
from gentok.data.real_images import contents, decode_images, read_parquet
from gentok.data.real_sound import decode_wav

PICTURES, SMALL, SOUNDS, PIECES, CLIPS = 64, 1000, 20, 5, 50


@cache
def _place() -> tempfile.TemporaryDirectory:
    """A folder that is removed with this process."""
    return tempfile.TemporaryDirectory(prefix="gentok-readers-")


def _home(name: str) -> Path:
    home = Path(_place().name) / name
    home.mkdir(parents=True, exist_ok=True)
    return home


def _picture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Smooth noise: a JPEG file of an ordinary size."""
    coarse = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def pictures() -> tuple[Work, Work]:
    """A batch from a folder of JPEG files of 500 x 375 pixels, their middle at 64 x 64."""
    home, rng = _home("pictures"), np.random.default_rng(0)
    for i in range(PICTURES):
        (home / f"class{i % 4}").mkdir(exist_ok=True)
        _picture(rng, 500, 375).save(home / f"class{i % 4}" / f"{i}.jpg", quality=90)
    draw, _ = data.folder_batches(home, 64, PICTURES, seed=0, workers=0)
    paths = sorted(home.glob("*/*.jpg"))

    def peer() -> torch.Tensor:
        rows = []
        for path in paths:
            with Image.open(path) as picture:
                rows.append(np.asarray(ImageOps.fit(picture.convert("RGB"), (64, 64))))
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 127.5 - 1

    return lambda: draw(0), peer


def parquet() -> tuple[Work, Work]:
    """The hub's layout of CIFAR-10: PNG bytes in the cells of a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, cells = np.random.default_rng(0), []
    for i in range(SMALL):
        stream = io.BytesIO()
        _picture(rng, 32, 32).save(stream, "PNG")
        cells.append({"bytes": stream.getvalue(), "path": f"{i}.png"})
    path = _home("parquet") / "train.parquet"
    pq.write_table(pa.table({"img": cells, "label": [i % 10 for i in range(SMALL)]}), path)

    def ours() -> torch.Tensor:
        return decode_images(contents(read_parquet(path, ["img", "label"])["img"], "row"), "row")

    def peer() -> torch.Tensor:
        cells = pq.read_table(path).column("img").to_pylist()
        rows = [np.asarray(Image.open(io.BytesIO(c["bytes"])).convert("RGB")) for c in cells]
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)

    return ours, peer


def sounds() -> tuple[Work, Work]:
    """Recordings of ten seconds at 24 kHz, 16 bits."""
    from scipy.io import wavfile

    home, rng = _home("sounds"), np.random.default_rng(0)
    for i in range(SOUNDS):
        samples = rng.integers(-9000, 9000, 240_000).astype(np.int16)
        wavfile.write(home / f"{i}.wav", 24_000, samples)
    paths = sorted(home.glob("*.wav"))

    def peer() -> list[torch.Tensor]:
        return [torch.from_numpy(wavfile.read(p)[1].astype(np.float32) / 32768) for p in paths]

    return lambda: [decode_wav(path.read_bytes(), str(path)) for path in paths], peer


def mesh(name: str) -> tuple[Work, Work]:
    """A ball of 5,120 triangles; ``name`` ends as its format does."""
    import trimesh

    path = _home("meshes") / name
    ball = trimesh.creation.icosphere(4)
    ball.export(path, **({"encoding": "ascii"} if name == "ascii.ply" else {}))
    return lambda: read_mesh(path), lambda: trimesh.load_mesh(path, process=False).area


def polygons() -> tuple[Work, Work]:
    """A floor of 4,096 squares beside triangles, in text, as a modeller saves it."""
    import trimesh

    side, path = 65, _home("meshes") / "floor.off"
    corners = [f"{x} {y} {(x * y) % 3}" for y in range(side) for x in range(side)]
    starts = [y * side + x for y in range(side - 1) for x in range(side - 1)]
    faces = [
        f"4 {i} {i + 1} {i + side + 1} {i + side}" if i % 2 else f"3 {i} {i + 1} {i + side}"
        for i in starts
    ]
    head = f"OFF\n{len(corners)} {len(faces)} 0\n"
    path.write_text(head + "\n".join(corners + faces) + "\n")
    return lambda: read_mesh(path), lambda: trimesh.load_mesh(path, process=False).area


def pieces() -> tuple[Work, Work]:
    """Pieces of 1,000 notes on four tracks: notes in seconds, beside the messages in seconds."""
    import mido

    home, rng = _home("pieces"), np.random.default_rng(0)
    for i in range(PIECES):
        file = mido.MidiFile()
        for channel in range(4):
            track = file.add_track()
            for pitch in rng.integers(40, 80, 250).tolist():
                words = {"note": pitch, "channel": channel}
                track.append(mido.Message("note_on", velocity=80, time=10, **words))
                track.append(mido.Message("note_off", time=110, **words))
        file.save(home / f"{i}.mid")
    paths = sorted(home.glob("*.mid"))
    peer = lambda: [list(mido.MidiFile(path)) for path in paths]  # noqa: E731
    return lambda: [data.read_midi(path) for path in paths], peer


def motions() -> tuple[Work, Work]:
    """Clips in HumanML3D's layout: features of 120 frames and three captions each."""
    from gentok.signals.mogo.clips import humanml3d

    home, rng = _home("motions/humanml3d"), np.random.default_rng(0)
    for part in ("new_joint_vecs", "texts"):
        (home / part).mkdir(exist_ok=True)
    line = "a man walks forward#a/DET man/NOUN walk/VERB forward/ADV#0.0#0.0\n"
    for i in range(CLIPS):
        values = rng.normal(size=(120, 263)).astype(np.float32)
        np.save(home / "new_joint_vecs" / f"{i:06}.npy", values)
        (home / "texts" / f"{i:06}.txt").write_text(3 * line)
    names = [f"{i:06}" for i in range(CLIPS)]
    (home / "train.txt").write_text("\n".join(names))

    def ours() -> object:
        before = os.environ.get(folder.VARIABLE, "")
        os.environ[folder.VARIABLE] = str(home.parent)
        try:
            return humanml3d()
        finally:
            os.environ[folder.VARIABLE] = before

    def peer() -> list[tuple]:
        found = []
        for name in names:
            rows = torch.from_numpy(np.load(home / "new_joint_vecs" / f"{name}.npy"))
            text = (home / "texts" / f"{name}.txt").read_text()
            found.append((rows, [words.split("#")[0] for words in text.splitlines()]))
        return found

    return ours, peer


READERS = [
    Workload(
        f"read {PICTURES} JPEG files of a folder", "plain PIL loop", 0.9, pictures, items=PICTURES
    ),
    Workload(
        f"read {SMALL} pictures of a parquet file", "pyarrow and PIL", 0.9, parquet, items=SMALL
    ),
    Workload(f"read {SOUNDS} WAV files of 10 s", "scipy.io.wavfile", 0.9, sounds, items=SOUNDS),
    *(
        Workload(
            f"read a mesh of 5,120 triangles, {kind}",
            "trimesh load_mesh",
            1.0,
            lambda name=name: mesh(name),
            items=1,
        )
        for kind, name in (
            ("OBJ", "ball.obj"),
            ("OFF", "ball.off"),
            ("PLY as text", "ascii.ply"),
            ("PLY in binary", "ball.ply"),
        )
    ),
    Workload("read a mesh of squares and triangles, OFF", "trimesh", 1.0, polygons, items=1),
    Workload(
        f"read {PIECES} MIDI files of 1,000 notes", "mido's messages", 0.8, pieces, items=PIECES
    ),
    Workload(f"read {CLIPS} motions as HumanML3D", "plain NumPy loop", 0.8, motions, items=CLIPS),
]
