"""Every reader of the library as a case: a small valid file, and what makes an answer right."""

import gzip
import io
import json
import struct
import warnings
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from gentok import data
from gentok.base import gelu_1l, language_model
from gentok.book.claims import read_plan
from gentok.book.records import read_record
from gentok.data.cloud_parts import read_parts
from gentok.data.clouds import read_cloud
from gentok.data.mesh_files import read_mesh
from gentok.data.pictures import read_picture
from gentok.data.real_sound import decode_wav
from gentok.efficient.matformer import recipe as matformer
from gentok.measure.features import lpips
from gentok.measure.features import weights as classifiers
from gentok.measure.features.classifier import SmallClassifier
from gentok.signals.mogo.clips import humanml3d
from gentok.training.checkpoint import HEADER
from gentok.training.weights import read_header
from gentok.video.step_video.folder_clips import clip_batches


@dataclass(frozen=True)
class Case:
    """A reader.

    Attributes:
        name: of the case.
        write: makes a valid file (and what belongs beside it) under a folder; returns the file.
        read: reads it through the library's public function and asserts that the answer is right.
        named: words of which a message must hold one; the file's name if empty.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], None]
    named: tuple[str, ...] = ()


def _put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _finite(*tensors: torch.Tensor) -> None:
    for tensor in tensors:
        assert tensor.numel() and (tensor.isfinite().all() or not tensor.is_floating_point())


# --- pictures -------------------------------------------------------------------------------------


def encoded(form: str, size: tuple[int, int] = (12, 10), mode: str = "RGB", seed: int = 0) -> bytes:
    """A smooth picture with some noise as a file in memory."""
    width, height = size
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * [5, 7, 3]
    pixels = ramp + np.random.default_rng(seed).integers(40, size=(height, width, 3))
    picture = Image.fromarray(pixels.astype(np.uint8))
    if mode == "I;16":
        picture = Image.fromarray((pixels[..., 0] * 200).astype(np.uint16))
    elif mode != "RGB":
        picture = picture.convert(mode)
    stream = io.BytesIO()
    picture.save(stream, form)
    return stream.getvalue()


def _picture(form: str, mode: str = "RGB") -> Case:
    def read(path: Path) -> None:
        picture = read_picture(path)
        assert picture.mode == "RGB" and min(picture.size) >= 1
        assert np.asarray(picture).shape == (*picture.size[::-1], 3)

    name = f"a.{form.lower()}"
    return Case(f"{form}-{mode}", lambda place: _put(place / name, encoded(form, mode=mode)), read)


def _write_folder(place: Path) -> Path:
    for label in ("cat", "dog"):
        for i in range(2):
            _put(place / "images" / label / f"{i}.png", encoded("PNG", seed=i))
    return _put(place / "images" / "cat" / "1.png", encoded("PNG", seed=9))


def _read_folder(path: Path) -> None:
    draw, classes = data.folder_batches(path.parents[1], 8, 8, seed=0, workers=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batch = draw(0)
    assert all(path.name in str(w.message) for w in caught if w.category is UserWarning)
    assert classes == 2 and batch["image"].shape == (8, 3, 8, 8) and batch["image"].abs().max() <= 1


def _write_cifar(place: Path) -> Path:
    cells = [{"bytes": encoded("PNG", (32, 32), seed=i), "path": f"{i}.png"} for i in range(4)]
    path = place / "cifar10" / "test.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"img": cells, "label": [0, 3, 9, 1]}), path)
    return path


def _read_cifar(path: Path) -> None:
    images = data.cifar10("test")
    assert images.images.shape[1:] == (3, 32, 32) and len(images)
    assert images.labels.min() >= 0 and images.labels.max() < 10


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as an IDX file."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def _mnist(part: str, suffix: str) -> Case:
    arrays = {
        "images-idx3": _rng().integers(256, size=(3, 28, 28)),
        "labels-idx1": np.array([1, 0, 9]),
    }

    def write(place: Path) -> Path:
        paths = {}
        for name, array in arrays.items():
            content = idx(array)
            content = gzip.compress(content, mtime=0) if suffix else content
            paths[name] = _put(place / "mnist" / f"t10k-{name}-ubyte{suffix}", content)
        return paths[part]

    def read(path: Path) -> None:
        digits = data.mnist("test")
        assert digits.images.shape == (3, 3, 28, 28) and digits.labels.max() < 10

    return Case(f"mnist-{part}{suffix}", write, read, (part, "mnist"))


# --- sound and music ------------------------------------------------------------------------------


def wav(samples: int = 400, rate: int = 8000) -> bytes:
    """Noise as a 16-bit mono WAV file, by Python's own writer."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(_rng().integers(-3000, 3000, samples).astype("<i2").tobytes())
    return stream.getvalue()


def extensible(plain: bytes) -> bytes:
    """The same sound under the extensible format tag, with a list of words before the samples."""
    rate = struct.unpack_from("<I", plain, 24)[0]
    guid = b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\x008\x9bq"
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, rate, 2 * rate, 2, 16, 22, 16, 4) + guid
    words = b"INFOISFT\x05\0\0\0Lavf\0\0"
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"LIST" + struct.pack("<I", len(words)) + words + plain[36:]
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _read_wav(path: Path) -> None:
    samples, rate = decode_wav(path.read_bytes(), str(path))
    _finite(samples)
    assert samples.ndim == 1 and samples.abs().max() <= 1 and rate > 0


def _write_digits(place: Path) -> Path:
    table = {
        "audio": [{"bytes": wav(50 + i), "path": f"{i}.wav"} for i in range(4)],
        "label": [0, 9, 3, 3],
        "speaker": ["a", "b", "a", "c"],
    }
    path = place / "spoken_digits" / "train.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


def _read_digits(path: Path) -> None:
    sounds = data.spoken_digits()
    _finite(*sounds.waves)
    assert sounds.rate > 0 and sounds.labels.min() >= 0 and sounds.labels.max() < 10
    assert all(isinstance(name, str) for name in sounds.speakers)


def _write_chorales(place: Path) -> Path:
    array = np.empty(3, object)
    for i in range(3):
        array[i] = _rng().integers(40, 80, (5 + i, 4)).astype(float)
        array[i][0, 1] = np.nan
    path = place / "chorales" / "Jsb16thSeparated.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, train=array, valid=array[:1], test=array[:1])
    return path


def _read_chorales(path: Path) -> None:
    for piece in data.chorales("train"):
        assert piece.shape[1] == 4 and piece.min() >= -1 and piece.max() < 128


# --- motion and shapes ----------------------------------------------------------------------------


def frames(count: int = 5) -> np.ndarray:
    """A clip of motion capture as stored: (T, 44)."""
    clip = _rng().normal(size=(count, 44))
    clip[:, 0] = 1 / 30
    return clip


def _write_mocap(compressed: bool) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        path = place / "motion" / "deepmimic.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        (np.savez_compressed if compressed else np.savez)(path, walk=frames(), run=frames(4))
        return path

    return write


def archive() -> bytes:
    """Two arrays as a .npz file in memory."""
    stream = io.BytesIO()
    np.savez(stream, a=np.arange(6).reshape(2, 3), b=np.ones(4))
    return stream.getvalue()


def _read_mocap(path: Path) -> None:
    for clip in data.mocap().values():
        _finite(clip.root, clip.rotations, clip.positions)
        assert clip.fps > 0 and len(clip.root) >= 2


OBJ = """# a roof, a wall and a floor
mtllib roof.mtl
o roof
v 0 0 0
v 1.0 0 0 1.0
v 1 1e0 0 0.5 0.25 0.5
v 0 1 0
v 0.5 0.5 -1
vt 0 0
vt 1 1
vn 0 0 1
usemtl tiles
s off
g top
f 1/1/1 2/2/1 3//1 4
f -5 -1 -4
f 2 \\
  3 5 # to the top
l 1 2
"""


def _read_mesh(path: Path) -> None:
    mesh = read_mesh(path)
    _finite(mesh.vertices)
    assert mesh.vertices.abs().max() <= 1 + 1e-5
    assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)


OFF = """COFF
# a roof
5 2 0
0 0 0 1 0 0 1
1.0 0 0 1 0 0 1
1 1e0 0 1 0 0 1
0 1 0 1 0 0 1
0.5 0.5 -1 0 1 0 1
4 0 1 2 3 255 0 0
3 0 1 4 # to the top
"""


def ply(form: str) -> bytes:
    """The roof as PLY."""
    head = (
        f"ply\nformat {form} 1.0\ncomment a roof\nelement vertex 5\nproperty float x\n"
        "property float y\nproperty float z\nproperty uchar red\nelement face 2\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    corners = [(0, 0, 0, 9), (1, 0, 0, 9), (1, 1, 0, 9), (0, 1, 0, 9), (0.5, 0.5, -1, 9)]
    faces = [(4, 0, 1, 2, 3), (3, 0, 1, 4)]
    if form == "ascii":
        rows = [" ".join(map(str, row)) for row in (*corners, *faces)]
        return (head + "\n".join(rows) + "\n").encode()
    order = "<" if "little" in form else ">"
    packed = [struct.pack(f"{order}fffB", *corner) for corner in corners]
    packed += [struct.pack(f"{order}B{len(face) - 1}i", *face) for face in faces]
    return head.encode() + b"".join(packed)


def _mesh(name: str, content: bytes | str) -> Case:
    return Case(name, lambda place: _put(place / f"a.{name[:3]}", content), _read_mesh)


def _write_scan(place: Path) -> Path:
    return _put(place / "clouds" / "roof" / "a.ply", ply("binary_little_endian"))


def midi() -> bytes:
    """Two tracks: a tempo, and two notes in running status."""
    end = b"\x00\xff\x2f\x00"
    tempo = b"\x00\xff\x51\x03\x06\x1a\x80" + end
    notes = b"\x00\xc0\x28\x00\x90\x3c\x40\x60\x3c\x00\x00\x40\x50\x60\x40\x00" + end
    tracks = [b"MTrk" + struct.pack(">I", len(track)) + track for track in (tempo, notes)]
    return b"MThd" + struct.pack(">IHHH", 6, 1, 2, 96) + b"".join(tracks)


def _read_midi(path: Path) -> None:
    notes = data.read_midi(path)
    _finite(notes.onset, notes.duration)
    assert len(notes) and notes.duration.min() >= 0 and notes.pitch.min() >= 0
    assert notes.pitch.max() < 128
    _finite(data.render_notes(notes, 8000, 0.0, 0.5))


def _read_meshes(path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = data.meshes()
    assert "good" in found and all(path.name in str(w.message) for w in caught)


def _write_meshes(place: Path) -> Path:
    _put(place / "meshes" / "good.obj", OBJ)
    return _put(place / "meshes" / "bad.obj", OBJ)


def _write_cloud(place: Path) -> Path:
    path = place / "clouds" / "chair" / "a.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, _rng().normal(size=(40, 3)).astype(np.float32))
    return path


def _read_cloud(path: Path) -> None:
    cloud = read_cloud(path, 20)
    _finite(cloud)
    torch.testing.assert_close(cloud.norm(dim=1).max(), torch.tensor(1.0))


def _write_parts(place: Path) -> Path:
    path = place / "cloud_parts" / "chair" / "a.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = _rng().normal(size=(40, 4)).astype(np.float32)
    rows[:, 3] = np.arange(40) % 3
    np.save(path, rows)
    return path


def _read_parts(path: Path) -> None:
    points, parts = read_parts(path, 4)
    _finite(points)
    torch.testing.assert_close(points.norm(dim=1).max(), torch.tensor(1.0))
    assert len(points) == len(parts) and parts.min() >= 0 and parts.max() < 4


def _motion_text(damaged: str) -> Case:
    def write(place: Path) -> Path:
        home = place / "humanml3d"
        paths = {"list": _put(home / "train.txt", "good\nbad\n")}
        for name in ("good", "bad"):
            (home / "new_joint_vecs").mkdir(exist_ok=True)
            paths["features"] = home / "new_joint_vecs" / f"{name}.npy"
            np.save(paths["features"], _rng().normal(size=(50, 8)).astype(np.float32))
            lines = "a man walks#a/DET man/NOUN#0.0#0.0\nhe turns.#he/PRON#0.1#2.3\n"
            paths["words"] = _put(home / "texts" / f"{name}.txt", lines)
        return paths[damaged]

    def read(path: Path) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            clips = humanml3d()
        assert all(path.name in str(w.message) for w in caught)
        _finite(*clips.features)
        assert {len(c[0]) for c in clips.features} == {8}
        assert all(40 <= len(c) < 200 for c in clips.features)
        assert all(words and 0 <= i < len(clips.features) for i, words in clips.pairs)

    return Case(f"humanml3d-{damaged}", write, read, ("humanml3d",))


# --- video and text -------------------------------------------------------------------------------


def _clip(damaged: str) -> Case:
    def write(place: Path) -> Path:
        home, paths = place / "clips" / "one", {}
        for i in range(3):
            paths["frame"] = _put(home / f"{i}.jpg", encoded("JPEG", seed=i))
        paths["caption"] = _put(home / "caption.txt", "a ball falls\n")
        return paths[damaged]

    def read(path: Path) -> None:
        draw = clip_batches(path.parents[1], 2, (2,), 8, 8, seed=0)
        for step in range(3):
            video, captions = draw(step)
            assert video.shape == (2, 2, 3, 8, 8) and video.abs().max() <= 1
            assert all(isinstance(words, str) and words for words in captions)

    return Case(f"clip-{damaged}", write, read, ("clips",))


def _read_words(path: Path) -> None:
    words = data.text("tinyshakespeare")
    assert isinstance(words, str) and words.strip() and not words.startswith("\ufeff")


def _write_tokens(place: Path) -> Path:
    path = place / "text" / "tokens.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, _rng().integers(90, size=200).astype(np.uint16))
    return path


def _read_tokens(path: Path) -> None:
    ids = matformer._tokens(matformer.PRESETS["tiny"])
    assert ids.ndim == 1 and len(ids) and np.asarray(ids[:5]).dtype.kind in "iu"


# --- networks -------------------------------------------------------------------------------------

GELU = {"d_vocab": 11, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_head": 4, "d_mlp": 16}
GELU |= {"n_ctx": 6, "act_fn": "gelu", "normalization": "LN", "tokenizer_name": "nobody/none"}


def _gelu(damaged: str) -> Case:
    def write(place: Path) -> Path:
        torch.manual_seed(0)
        sizes = {k: v for k, v in GELU.items() if k in gelu_1l.Gelu1LConfig.__dataclass_fields__}
        state = gelu_1l.Gelu1L(gelu_1l.Gelu1LConfig(**sizes)).state_dict()
        home = place / "gelu"
        paths = {"config": _put(home / "config.json", json.dumps(GELU))}
        paths["weights"] = home / gelu_1l.WEIGHTS_FILE
        torch.save(state, paths["weights"])
        return paths[damaged]

    def read(path: Path) -> None:
        model = gelu_1l.load(path.parent)
        _finite(*model.state_dict().values())

    return Case(f"gelu-1l-{damaged}", write, read, ("gelu",))


def _neox(damaged: str) -> Case:
    def write(place: Path) -> Path:
        from gentok.interpret.vsae.corpus import byte_tokenizer

        torch.manual_seed(0)
        model = language_model.build(language_model.LanguageModelConfig(257, 8, 1, 2, 16, 12))
        model.tokenizer = byte_tokenizer()
        language_model.save(model, place / "neox")
        return place / "neox" / damaged

    def read(path: Path) -> None:
        model = language_model.load(path.parent)
        _finite(*model.network.state_dict().values())
        assert model.tokenizer("ab").input_ids is not None

    return Case(f"neox-{damaged}", write, read, ("neox",))


def _lpips(name: str) -> Case:
    def small() -> lpips.LPIPS:
        lpips.WIDTHS = (2, 2, 2, 2, 2)  # in a process of its own: VGG has 60 MB
        torch.manual_seed(0)
        return lpips.LPIPS()

    def write(place: Path) -> Path:
        state, home = small().state_dict(), place / "lpips"
        home.mkdir(parents=True)
        for file, prefix in ((lpips.BACKBONE, "features."), (lpips.HEADS, "lin")):
            torch.save({k: v for k, v in state.items() if k.startswith(prefix)}, home / file)
        return home / name

    def read(path: Path) -> None:
        small()
        _finite(*lpips.load_lpips().state_dict().values())

    return Case(f"lpips-{name}", write, read)


def _write_header(place: Path) -> Path:
    path = place / "weights" / "toy.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.ones(3)}, path, {HEADER: json.dumps({"parts": {}, "seed": 0})})
    return path


def _read_header(path: Path) -> None:
    assert isinstance(read_header(path), dict)


def _write_classifier(place: Path) -> Path:
    classifiers.COMMITTED = place  # in a process of its own
    torch.manual_seed(0)
    state = {name: value.half() for name, value in SmallClassifier(2).state_dict().items()}
    path = place / "classifier_world.safetensors"
    save_file(state, path, {"classes": "a\nb", "test_accuracy": "1"})
    return path


def _read_classifier(path: Path) -> None:
    classifiers.COMMITTED = path.parent
    _finite(*classifiers.load_classifier("world").state_dict().values())


# --- the book -------------------------------------------------------------------------------------

RECORD = {
    "system": "toy",
    "experiments": {
        "one": {
            "made": {"started": "", "ended": "", "machine": {}, "versions": {}, "code": "a"},
            "seconds": 1.5,
            "seeds": [0, 1],
            "arms": {"a": {}},
            "gates": [{"id": "g", "what": "x", "worst": 1.0, "limit": 2.0, "passed": True}],
            "rows": [{"variant": "a", "seed": s, "nll": 1.25 + s} for s in (0, 1)],
            "renewals": [{"commit": "c", "code": "b", "by": "replay"}],
        }
    },
}
CLAIMS = """[[gate]]
id = "trained"
experiment = "one"
metric = "nll"
arm = "a"
at_most = 3.0
reason = "a pilot"

[[claim]]
id = "C1"
sentence = "a beats b"
section = "4.1"
kind = "arms"
experiment = "one"
metric = "nll"
system = "a"
baseline = { arm = "b", metric = "bits", weights = [1.0, 2.0] }
direction = "lower"
smallest = 0.04
reason = "a tenth"
gates = ["trained"]
planned = true
"""


def _read_record(path: Path) -> None:
    record = read_record(path)
    assert isinstance(record["system"], str)
    for experiment in record["experiments"].values():
        assert all(isinstance(row["variant"], str) for row in experiment["rows"])


def _read_claims(path: Path) -> None:
    plan = read_plan(path)
    assert all(isinstance(claim.sentence, str) for claim in plan.claims)
    assert all(np.isfinite(gate.at_most or gate.at_least or 0.0) for gate in plan.gates)


CASES = (
    *(_picture(form) for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM")),
    *(_picture("PNG", mode) for mode in ("I;16", "P", "LA")),
    Case("image-folder", _write_folder, _read_folder),
    Case("cifar10", _write_cifar, _read_cifar),
    *(_mnist(part, end) for part in ("images-idx3", "labels-idx1") for end in ("", ".gz")),
    Case("wav", lambda place: _put(place / "a.wav", wav()), _read_wav),
    Case("wav-extensible", lambda place: _put(place / "a.wav", extensible(wav())), _read_wav),
    Case("spoken-digits", _write_digits, _read_digits),
    Case("chorales", _write_chorales, _read_chorales),
    Case("mocap", _write_mocap(False), _read_mocap),
    Case("mocap-compressed", _write_mocap(True), _read_mocap),
    Case("obj", lambda place: _put(place / "a.obj", OBJ), _read_mesh),
    _mesh("off", OFF),
    *(_mesh(f"ply-{form}", ply(form)) for form in ("ascii", "binary_little_endian")),
    _mesh("ply-binary_big_endian", ply("binary_big_endian")),
    Case("mesh-cloud", _write_scan, _read_cloud),
    Case("midi", lambda place: _put(place / "a.mid", midi()), _read_midi),
    Case("meshes", _write_meshes, _read_meshes),
    Case("cloud", _write_cloud, _read_cloud),
    Case("cloud-parts", _write_parts, _read_parts),
    *(_motion_text(part) for part in ("features", "words", "list")),
    *(_clip(part) for part in ("frame", "caption")),
    Case(
        "text",
        lambda place: _put(place / "text" / "tinyshakespeare.txt", "First Citizen:\nÆ!\n" * 9),
        _read_words,
    ),
    Case("tokens", _write_tokens, _read_tokens),
    *(_gelu(part) for part in ("config", "weights")),
    *(_neox(name) for name in ("config.json", "model.safetensors", "tokenizer.json")),
    *(_lpips(name) for name in (lpips.BACKBONE, lpips.HEADS)),
    Case("weights-header", _write_header, _read_header),
    Case("classifier", _write_classifier, _read_classifier),
    Case("record", lambda place: _put(place / "toy.json", json.dumps(RECORD)), _read_record),
    Case("claims", lambda place: _put(place / "toy.claims.toml", CLAIMS), _read_claims),
)
