"""Real sets that are absent, damaged or on the hub: clear lines, and nothing fetched unasked."""

import gzip
import io
import pickle
import struct
import zipfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gentok import data
from gentok.data.mesh_files import read_mesh
from gentok.data.real_sound import decode_wav

READERS = {
    "cifar10": lambda: data.cifar10("test"),
    "mnist": data.mnist,
    "spoken_digits": data.spoken_digits,
    "chorales": data.chorales,
    "mocap": data.mocap,
    "meshes": data.meshes,
    "tinyshakespeare": lambda: data.text("tinyshakespeare"),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder that GENTOK_DATA names; any use of the hub fails the test."""
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("asked the hub"))
    return tmp_path


def png(value: int, size: int = 32) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(stream, "png")
    return stream.getvalue()


def write_cifar(folder, images: list[bytes]):
    (folder / "cifar10").mkdir()
    table = {"img": [{"bytes": b, "path": None} for b in images], "label": list(range(len(images)))}
    pq.write_table(pa.table(table), folder / "cifar10/test.parquet")


def idx(array: np.ndarray) -> bytes:
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + (array.astype(np.uint8).tobytes())
    )


def write_mnist(folder, images: bytes, labels: bytes):
    (folder / "mnist").mkdir()
    (folder / "mnist/t10k-images-idx3-ubyte.gz").write_bytes(images)
    (folder / "mnist/t10k-labels-idx1-ubyte").write_bytes(labels)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("where", ["unset", "empty", "nowhere"])
def test_absent_sets_say_so_in_one_line(name, where, home, monkeypatch):
    if where == "unset":
        monkeypatch.delenv("GENTOK_DATA")
    if where == "nowhere":
        monkeypatch.setenv("GENTOK_DATA", str(home / "nowhere"))
    with pytest.raises(FileNotFoundError) as caught:
        READERS[name]()
    line = str(caught.value)
    assert "\n" not in line and "not found" in line and "set GENTOK_DATA" in line
    assert ("is not set" in line) == (where == "unset")
    assert data.available()[name] is None


def test_available_names_every_set_and_where(home):
    write_cifar(home, [png(1)])
    found = data.available()
    assert set(READERS) <= set(found)
    assert found["cifar10"] == "1 file(s) in GENTOK_DATA/cifar10"
    embedded = {k: v for k, v in found.items() if k not in READERS}
    assert embedded and all(embedded.values())


def test_cifar10_reads_the_hub_s_layout(home):
    write_cifar(home, [png(0), png(255), png(7)])
    images = data.cifar10("test")
    assert images.images[:, 0, 0, 0].tolist() == [0, 255, 7]
    assert images.labels.tolist() == [0, 1, 2]
    assert str(home) not in images.source  # a path of one machine has no place in outputs


def test_mnist_reads_plain_and_gzip_idx(home):
    pictures = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 256
    write_mnist(home, gzip.compress(idx(pictures)), idx(np.array([3, 9])))
    digits = data.mnist()
    assert np.array_equal(digits.images[:, 1].numpy(), pictures)
    assert digits.labels.tolist() == [3, 9]


@pytest.mark.parametrize("keep", [0, 3, 10, 200])
def test_cut_parquet_is_a_clear_value_error(home, keep):
    write_cifar(home, [png(1)] * 4)
    path = home / "cifar10/test.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="not a readable parquet file"):
        data.cifar10("test")


def test_parquet_without_the_columns(home):
    (home / "cifar10").mkdir()
    pq.write_table(pa.table({"picture": [1]}), home / "cifar10/test.parquet")
    with pytest.raises(ValueError, match="img"):
        data.cifar10("test")


def test_undecodable_image(home):
    write_cifar(home, [png(1), b"not an image"])
    with pytest.raises(ValueError, match="image 1 cannot be read as a picture"):
        data.cifar10("test")


@pytest.mark.parametrize("keep", [0, 2, 7, 17, -1])
def test_cut_idx_is_a_clear_value_error(home, keep):
    whole = idx(np.zeros((2, 28, 28)))
    write_mnist(home, gzip.compress(whole[:keep]), idx(np.array([1, 2])))
    with pytest.raises(ValueError, match="cut short|not an IDX"):
        data.mnist()


def test_cut_gzip_is_a_clear_value_error(home):
    write_mnist(home, gzip.compress(idx(np.zeros((2, 28, 28))))[:-9], idx(np.array([1, 2])))
    with pytest.raises(ValueError, match="not a readable gzip file"):
        data.mnist()


def test_mnist_with_labels_of_another_set(home):
    write_mnist(home, gzip.compress(idx(np.zeros((2, 28, 28)))), idx(np.array([1, 2, 3])))
    with pytest.raises(ValueError, match="do not go together"):
        data.mnist()


def test_damaged_recording(home):
    (home / "spoken_digits").mkdir()
    table = {"audio": [{"bytes": b"RIFF", "path": ""}], "label": [1], "speaker": ["a"]}
    pq.write_table(pa.table(table), home / "spoken_digits/train.parquet")
    with pytest.raises(ValueError, match="recording 0"):
        data.spoken_digits()


def write_chorales(folder, pickled: bytes):
    (folder / "chorales").mkdir()
    header = io.BytesIO()
    shape = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(folder / "chorales/Jsb16thSeparated.npz", "w") as archive:
        archive.writestr("train.npy", header.getvalue() + pickled)


def test_chorales_read_arrays_with_rests(home):
    array = np.empty(1, object)
    array[0] = np.array([[60.0, np.nan, 55, 48], [62.0, 50.0, np.nan, 48]])
    write_chorales(home, pickle.dumps(array))
    assert [c.tolist() for c in data.chorales()] == [[[60, -1, 55, 48], [62, 50, -1, 48]]]


@pytest.mark.parametrize(
    "rows", [np.zeros((2, 3)), np.zeros((0, 4)), np.full((2, 4), 200), np.array([["a"] * 4])]
)
def test_what_are_no_chorales(home, rows):
    array = np.empty(1, object)
    array[0] = rows
    write_chorales(home, pickle.dumps(array))
    with pytest.raises(ValueError, match=r"Jsb16thSeparated.npz \(train, 0\) must be"):
        data.chorales()


def test_chorales_run_no_code(home):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("code ran while reading data",))

    write_chorales(home, pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="does not belong"):
        data.chorales()


def test_damaged_motion(home):
    (home / "motion").mkdir()
    path = home / "motion/deepmimic.npz"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="not a readable"):
        data.mocap()
    np.savez(path, walk=np.zeros((5, 43)))
    with pytest.raises(ValueError, match="walk must be"):
        data.mocap()
    for value, word in ((np.nan, "must hold finite numbers"), (-1.0, "frames of -1 seconds")):
        frames = np.ones((5, 44))
        frames[2, 0] = value
        np.savez(path, walk=frames)
        with pytest.raises(ValueError, match=word):
            data.mocap()


SQUARE = "v 0 0 0\nv 4 0 0\nv 4 2 0\nv 0 2 0\n"


@pytest.mark.parametrize(
    "text",
    [
        *("v 0 0\n", "v a b c\n", "v 0 0 0\nf 1 2 3\n", "", "f x\n", "v 0 nan 0\nf 1 1 1\n"),
        *(SQUARE + "f 0 1 2\n", SQUARE + "f 1 2\n", SQUARE + "f -5 1 2\n", SQUARE + "f 1 1 2\n"),
        "v 1 1 1\n" * 3 + "f 1 2 3\n",
    ],
)
def test_damaged_mesh(tmp_path, text):
    path = tmp_path / "bad.obj"
    path.write_text(text)
    with pytest.raises(ValueError, match="bad.obj"):
        read_mesh(path)


def test_mesh_polygons_become_triangles_and_fit_the_cube(tmp_path):
    path = tmp_path / "square.obj"
    path.write_text("# a square\nv 0 0 0\nv 4 0 0\nv 4 2 0\nv 0 2 0\nf 1/1 2/2 3/3 -1//4\n")
    mesh = read_mesh(path)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.vertices.tolist() == [[-1, -0.5, 0], [1, -0.5, 0], [1, 0.5, 0], [-1, 0.5, 0]]


def test_a_comment_may_end_a_line(tmp_path):
    path = tmp_path / "square.obj"
    path.write_text(SQUARE + "f 1 2 3 4 # 5 6\n")
    assert read_mesh(path).faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_one_damaged_mesh_is_named_and_left_out(home):
    (home / "meshes").mkdir()
    (home / "meshes" / "good.obj").write_text(SQUARE + "f 1 2 3 4\n")
    (home / "meshes" / "bad.obj").write_text("f 1 2 3\n")
    with pytest.warns(UserWarning, match=r"bad\.obj"):
        assert list(data.meshes()) == ["good"]
    (home / "meshes" / "good.obj").unlink()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="none of 1 meshes"):
        data.meshes()


def test_a_mesh_far_from_zero_keeps_its_shape(tmp_path):
    path = tmp_path / "far.obj"
    path.write_text("v 4500000 0 0\nv 4500000.25 0 0\nv 4500000 0.25 0\nf 1 2 3\n")
    assert read_mesh(path).vertices.tolist() == [[-1, -1, 0], [1, -1, 0], [-1, 1, 0]]


def wav(rate=8000, samples=4, extensible=False) -> bytes:
    """A mono file of 16 bits, its header written by hand."""
    body = np.arange(samples, dtype="<i2").tobytes()
    tag = struct.pack("<HHIIHH", 0xFFFE if extensible else 1, 1, rate, 2 * rate, 2, 16)
    if extensible:
        pcm = bytes.fromhex("0100000000001000800000aa00389b71")
        tag += struct.pack("<HHI", 22, 16, 4) + pcm
    chunks = b"fmt " + struct.pack("<I", len(tag)) + tag
    chunks += b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def test_wav_headers():
    for extensible in (False, True):
        samples, rate = decode_wav(wav(extensible=extensible), "a.wav")
        assert rate == 8000 and (samples * 32768).tolist() == [0, 1, 2, 3]
    for damaged in (wav(rate=0), wav(samples=0), wav()[:30], wav(extensible=True)[:-1]):
        with pytest.raises(ValueError, match=r"a\.wav"):
            decode_wav(damaged, "a.wav")


def test_download_takes_the_hub_s_copy(home, monkeypatch):
    picture = Image.fromarray(np.full((28, 28), 9, np.uint8))
    colour = Image.fromarray(np.full((32, 32, 3), 5, np.uint8))
    hub = {
        "uoft-cs/cifar10": {"img": [colour], "label": [4]},
        "ylecun/mnist": {"image": [picture], "label": [7]},
        "karpathy/tiny_shakespeare": {"text": ["ab"]},
    }
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, split, **_: datasets.Dataset.from_dict(hub[name])
    )
    assert data.cifar10("test", download=True).images.unique().tolist() == [5]
    assert data.mnist(download=True).labels.tolist() == [7]
    assert data.text("tinyshakespeare", download=True) == "ababab"


def test_hub_out_of_reach_is_one_line(home, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(FileNotFoundError, match="could not download.*no route") as caught:
        data.cifar10(download=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [data.cifar10, data.mnist, data.chorales])
def test_unknown_split(reader):
    with pytest.raises(ValueError, match="split"):
        reader("all")


def test_text_is_read_from_the_folder(home):
    (home / "text").mkdir()
    (home / "text/tinyshakespeare.txt").write_text("To be", encoding="utf-8")
    assert data.text("tinyshakespeare") == "To be"
