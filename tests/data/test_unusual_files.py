"""Legal files that few programs write: they must read right, as their specifications say."""

import gzip
import io
import json
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from gentok import data
from gentok.data.clouds import read_cloud
from gentok.data.files import read_archive, read_array, read_json, read_text
from gentok.data.mesh_files import read_mesh
from gentok.data.pictures import read_picture
from gentok.data.real_sound import decode_wav


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    return tmp_path


RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def saved(path, picture: Image.Image, **options) -> np.ndarray:
    picture.save(path, **options)
    return np.asarray(read_picture(path)).astype(int)


# --- pictures -------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header: tuple, rows: bytes, *between: bytes) -> bytes:
    """PNG (RFC 2083) by hand: header is width, height, depth, colour, 0, 0, interlaced."""
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", *header)), *between]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [*parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def test_interlaced_png(tmp_path):
    """Adam7 (RFC 2083, 2.6): seven passes, each a coarser or finer picture of its own."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    passes.append((0, 1, 1, 2))
    rows = b"".join(
        b"\0" + row.tobytes() for x, y, across, down in passes for row in RAMP[y::down, x::across]
    )
    (tmp_path / "a.png").write_bytes(png((8, 8, 8, 0, 0, 0, 1), rows))
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.png"))[..., 1], RAMP)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_few_greys_spans_black_to_white(tmp_path, bits):
    per_byte = 8 // bits
    packed = (1 << bits) - 1  # black and, at the end, white
    (tmp_path / "a.png").write_bytes(png((per_byte, 1, bits, 0, 0, 0, 0), bytes([0, packed])))
    found = np.asarray(read_picture(tmp_path / "a.png"))[0, :, 0].tolist()
    assert found == [0] * (per_byte - 1) + [255]


def test_png_with_a_palette_and_words(tmp_path):
    palette = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    words = chunk(b"tEXt", b"Comment\0by hand") + chunk(b"gAMA", struct.pack(">I", 45455))
    rows = b"\0\1\0" + b"\0\0\1"
    (tmp_path / "a.png").write_bytes(png((2, 2, 8, 3, 0, 0, 0), rows, words, palette))
    found = np.asarray(read_picture(tmp_path / "a.png"))
    assert found[0].tolist() == [[40, 50, 60], [10, 20, 30]]


def test_colour_of_sixteen_bits_keeps_its_brightness(tmp_path):
    rows = b"\0" + struct.pack(">6H", 0, 257 * 100, 65535, 65535, 257 * 7, 0)
    (tmp_path / "a.png").write_bytes(png((2, 1, 16, 2, 0, 0, 0), rows))
    assert np.asarray(read_picture(tmp_path / "a.png"))[0].tolist() == [[0, 100, 255], [255, 7, 0]]


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"restart": 1}])
def test_kinds_of_jpeg(tmp_path, options):
    options = {"restart_marker_blocks": 1} if "restart" in options else options
    picture = Image.fromarray(np.repeat(np.repeat(RAMP, 4, 0), 4, 1)).convert("RGB")
    found = saved(tmp_path / "a.jpg", picture, quality=95, **options)
    assert np.abs(found - np.asarray(picture)).max() <= 12


def test_cmyk_jpeg_is_not_inverted(tmp_path):
    picture = Image.new("RGB", (16, 16), (200, 30, 60))
    found = saved(tmp_path / "a.jpg", picture.convert("CMYK"), quality=95)
    assert np.abs(found - [200, 30, 60]).max() <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_eight_ways_to_hold_a_camera(tmp_path, orientation):
    """EXIF 2.3, tag 274: where the stored row 0 and column 0 belong."""
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[274] = orientation
    found = saved(tmp_path / "a.png", Image.fromarray(pixels), exif=exif)[..., 0]
    upright = pixels.T if orientation > 4 else pixels
    rows = {3: -1, 4: -1, 7: -1, 8: -1}.get(orientation, 1)
    columns = {2: -1, 3: -1, 6: -1, 7: -1}.get(orientation, 1)
    assert np.array_equal(found, upright[::rows, ::columns])


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(read_picture(tmp_path / "a.gif"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_of_sixteen_bits(tmp_path, compression):
    picture = Image.fromarray(RAMP.astype(np.uint16) * 257)
    found = saved(tmp_path / "a.tif", picture, compression=compression)
    assert np.array_equal(found[..., 0], RAMP)


# --- tables ---------------------------------------------------------------------------------------


def image_bytes(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write_cifar(home, table: pa.Table, **options):
    (home / "cifar10").mkdir(exist_ok=True)
    pq.write_table(table, home / "cifar10/test.parquet", **options)


def cells(count: int = 3) -> list[dict]:
    return [{"bytes": image_bytes(i), "path": None} for i in range(count)]


@pytest.mark.parametrize("how", ["order", "dictionary", "narrow", "groups", "large", "plain"])
def test_parquet_of_other_writers(home, how):
    labels, options = pa.array([4, 0, 9]), {}
    images = pa.array(cells())
    if how == "dictionary":
        labels = labels.dictionary_encode()
    if how == "narrow":
        labels = labels.cast(pa.uint8())
    if how == "groups":
        options = {"row_group_size": 1, "compression": "zstd", "version": "1.0"}
    if how == "large":
        options = {"data_page_version": "2.0", "use_dictionary": False, "compression": "gzip"}
    if how == "plain":  # bytes without the struct around them
        images = pa.array([cell["bytes"] for cell in cells()], pa.large_binary())
    columns = {"more": pa.array(["x"] * 3), "label": labels, "img": images}
    if how != "order":
        columns = {"img": images, "label": labels}
    write_cifar(home, pa.table(columns), **options)
    found = data.cifar10("test")
    assert found.labels.tolist() == [4, 0, 9]
    assert found.images[:, 0, 5, 5].tolist() == [0, 1, 2]


BAD_TABLES = {
    "null cell": ({"img": [*cells(1), None]}, "row 1 holds no bytes"),
    "null bytes": ({"img": [*cells(1), {"bytes": None, "path": "a.png"}]}, "row 1 holds no bytes"),
    "null label": ({"label": [0, None]}, "whole numbers from 0 to 9, got None in row 1"),
    "label out of range": ({"label": [0, 10]}, "whole numbers from 0 to 9, got 10 in row 1"),
    "label below": ({"label": [-1, 0]}, "got -1 in row 0"),
    "label of another kind": ({"label": [0.0, 0.5]}, "got 0.0 in row 0"),
    "words for labels": ({"label": ["cat", "dog"]}, "got 'cat' in row 0"),
    "another column": ({"img": None}, "no column 'img'"),
    "no rows": ({"img": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "no rows"),
    "no picture": ({"img": [*cells(1), {"bytes": b"GIF89a", "path": ""}]}, "image 1 cannot be"),
}


@pytest.mark.parametrize("fault", BAD_TABLES)
def test_a_table_that_is_none_is_refused_by_name(home, fault):
    change, words = BAD_TABLES[fault]
    columns = {"img": cells(2), "label": [0, 1]} | change
    write_cifar(home, pa.table({k: v for k, v in columns.items() if v is not None}))
    with pytest.raises(ValueError, match=f"test.parquet.*{words}"):
        data.cifar10("test")


def test_pictures_of_two_sizes_or_of_another_set_are_refused(home):
    stream = io.BytesIO()
    Image.new("RGB", (16, 32)).save(stream, "PNG")
    small = {"bytes": stream.getvalue(), "path": ""}
    write_cifar(home, pa.table({"img": [*cells(1), small], "label": [0, 1]}))
    with pytest.raises(ValueError, match=r"test.parquet: images 0 and 1 differ"):
        data.cifar10("test")
    write_cifar(home, pa.table({"img": [small, small], "label": [0, 1]}))
    with pytest.raises(ValueError, match=r"test.parquet must hold 32 x 32 pixels"):
        data.cifar10("test")


def write_mnist(home, images: bytes, labels: bytes, suffix: str = ""):
    (home / "mnist").mkdir(exist_ok=True)
    (home / f"mnist/t10k-images-idx3-ubyte{suffix}").write_bytes(images)
    (home / f"mnist/t10k-labels-idx1-ubyte{suffix}").write_bytes(labels)


IMAGES = b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28) + bytes(2 * 784)
LABELS = b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\3\7"


def test_gzip_of_two_members(home):
    """RFC 1952, 2.2: the contents of several members follow one another."""
    halves = gzip.compress(IMAGES[:900]) + gzip.compress(IMAGES[900:])
    write_mnist(home, halves, gzip.compress(LABELS), ".gz")
    assert data.mnist().labels.tolist() == [3, 7]


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (b"\0\0\x08\x03" + b"\xff" * 12 + bytes(99), LABELS, "images-idx3-ubyte is cut short"),
        (b"\0\0\x08\xff" + b"\xff" * 2000, LABELS, "images-idx3-ubyte is cut short"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 0, 0), LABELS, "images-idx3-ubyte must hold 28"),
        (IMAGES, LABELS[:-1] + b"\x0a", "labels-idx1-ubyte: labels must .* got 10 in row 1"),
    ],
)
def test_lengths_and_labels_out_of_range(home, images, labels, words):
    write_mnist(home, images, labels)
    with pytest.raises(ValueError, match=words):
        data.mnist()


def test_a_turned_bit_in_gzip_is_refused_by_name(home):
    packed = bytearray(gzip.compress(np.random.default_rng(0).bytes(500)))
    for at in (3, 12, 100, 400):
        damaged = bytearray(packed)
        damaged[at] ^= 16
        write_mnist(home, bytes(damaged), gzip.compress(LABELS), ".gz")
        with pytest.raises(ValueError, match=r"images-idx3-ubyte\.gz"):
            data.mnist()


# --- sound ----------------------------------------------------------------------------------------

SOUND = struct.pack("<4h", 0, 16384, -32768, 5)
PLAIN = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
GUID = b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\x008\x9bq"
EXTENSIBLE = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 16000, 2, 16, 22, 16, 4) + GUID


def riff(*chunks: tuple[bytes, bytes], length: int | None = None) -> bytes:
    """RIFF: a chunk of odd length is followed by a byte that does not count."""
    body = b"WAVE"
    for name, content in chunks:
        size = length if length is not None and name == b"data" else len(content)
        body += name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "whole",
    [
        riff((b"fmt ", PLAIN), (b"data", SOUND)),
        riff((b"fmt ", PLAIN + b"\0\0"), (b"data", SOUND)),
        riff((b"fmt ", EXTENSIBLE), (b"fact", b"\4\0\0\0"), (b"data", SOUND)),
        riff((b"LIST", b"INFOfmt \0"), (b"fmt ", PLAIN), (b"odd ", b"abc"), (b"data", SOUND)),
        riff((b"bext", b"x" * 601), (b"fmt ", PLAIN), (b"data", SOUND), (b"id3 ", b"1")),
        riff((b"fmt ", PLAIN), (b"data", SOUND)) + b"behind the end",
        riff((b"fmt ", PLAIN), (b"data", SOUND), length=0xFFFFFFFF),  # written into a pipe
    ],
)
def test_kinds_of_wav(whole):
    samples, rate = decode_wav(whole, "a.wav")
    assert rate == 8000 and (samples * 32768).tolist() == [0, 16384, -32768, 5]


@pytest.mark.parametrize(
    "whole",
    [
        *(b"", b"RIFF", b"RIFX" + riff((b"fmt ", PLAIN), (b"data", SOUND))[4:]),
        riff((b"data", SOUND), (b"fmt ", PLAIN)),
        riff((b"fmt ", PLAIN[:9]), (b"data", SOUND)),
        riff((b"fmt ", PLAIN)),
        riff((b"fmt ", PLAIN), (b"data", SOUND), length=9),
        riff((b"fmt ", PLAIN), (b"data", SOUND[:-1])),
        riff((b"fmt ", PLAIN), (b"data", b"")),
        riff((b"fmt ", PLAIN.replace(struct.pack("<I", 8000), bytes(4))), (b"data", SOUND)),
        riff((b"fmt ", b"\3" + PLAIN[1:]), (b"data", SOUND)),  # floats
        riff((b"fmt ", EXTENSIBLE[:20]), (b"data", SOUND)),
    ],
)
def test_what_is_no_sound_is_refused_by_name(whole):
    with pytest.raises(ValueError, match=r"^a\.wav is not a readable WAV file: "):
        decode_wav(whole, "a.wav")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": [1, None]}, "got None in row 1"),
        ({"label": [1, 11]}, "got 11 in row 1"),
        ({"speaker": ["a", None]}, "name the speaker"),
        ({"audio": [{"bytes": riff((b"fmt ", PLAIN), (b"data", SOUND))}, None]}, "row 1 holds no"),
    ],
)
def test_recordings_without_labels_speakers_or_sound(home, change, words):
    (home / "spoken_digits").mkdir()
    sound = {"bytes": riff((b"fmt ", PLAIN), (b"data", SOUND))}
    table = {"audio": [sound] * 2, "label": [1, 2], "speaker": ["a", "b"]} | change
    pq.write_table(pa.table(table), home / "spoken_digits/train.parquet")
    with pytest.raises(ValueError, match=f"train.parquet.*{words}"):
        data.spoken_digits()


# --- shapes and motion ----------------------------------------------------------------------------

SQUARE = "v 0 0 0\nv 4 0 0\nv 4 2 0\nv 0 2 0\n"


@pytest.mark.parametrize(
    "faces",
    [
        "f 1 2 3 4\n",
        "f -4 -3 -2 -1 # the latest four\n",
        "f 1/5 2/6 3/7 4/8\n",
        "f 1/5/9 2/6/9 3/7/9 4/8/9\nvt 0 0\nvn 0 0 1\n",
        "f 1//9 2//9 3//9 4//9\n",
        "f 1 \\\n2 \\\n  3 4\n",
        "o a\ng b c\nusemtl d\ns 1\nmtllib e f.mtl\nvp 0.1 0.2\nl 1 2\np 1\nf 1 2 3\nf 1 3 4\n",
        "  f\t1\t2 3   4  \n",
        "# f 9 9 9 \\\nf 1 2 3 4\n",
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_kinds_of_obj(tmp_path, faces, ends):
    (tmp_path / "a.obj").write_bytes((SQUARE + faces).replace("\n", ends).encode())
    mesh = read_mesh(tmp_path / "a.obj")
    assert mesh.vertices.tolist() == [[-1, -0.5, 0], [1, -0.5, 0], [1, 0.5, 0], [-1, 0.5, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_obj_with_a_byte_order_mark_colours_and_foreign_letters(tmp_path):
    text = "\ufeffv 0 0 0 1 0 0\nv 2 0 0 1.0\no Stra\u00dfe\nv 2E0 1.e+0 -0 .5 .5 .5\nf 1 2 3\n"
    for encoding in ("utf-8", "latin-1"):
        path = tmp_path / f"{encoding}.obj"
        path.write_bytes(text[encoding == "latin-1" :].encode(encoding))
        assert read_mesh(path).vertices.shape == (3, 3)


@pytest.mark.parametrize("far", ["1e31", "-1e300", "nan", "inf", "1e999"])
@pytest.mark.parametrize("axis", range(3))
def test_no_coordinate_is_out_of_range(tmp_path, far, axis):
    corner = ["0", "1", "0"]
    corner[axis] = far
    (tmp_path / "a.obj").write_text(SQUARE + f"v {' '.join(corner)}\nf 1 2 5\n")
    with pytest.raises(ValueError, match=r"a\.obj, line 5 cannot be read"):
        read_mesh(tmp_path / "a.obj")


@pytest.mark.parametrize("kind", [">f8", "<f4", "<f2", ">i2", "u1"])
@pytest.mark.parametrize("order", "CF")
def test_kinds_of_npy(tmp_path, kind, order):
    points = np.random.default_rng(0).integers(0, 100, (30, 6)).astype(kind)
    np.save(tmp_path / "a.npy", np.asarray(points, order=order))
    expected = torch.from_numpy(points[:, :3].astype(np.float64))
    expected = expected - expected.mean(0)
    expected = expected / expected.norm(dim=1).max()
    torch.testing.assert_close(read_cloud(tmp_path / "a.npy", 30), expected.float())


def test_npy_of_the_second_version(tmp_path):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, np.arange(5), version=(2, 0))
    assert read_array(tmp_path / "a.npy").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(1 << 40, 3), (1 << 62, 1 << 62), (-1, 3), (7, 3)])
def test_a_header_is_held_against_the_file(tmp_path, shape):
    """No gigabytes are taken because a header of 128 bytes asks for them."""
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(6 * 3 * 8))
    with pytest.raises(ValueError, match=r"a\.npy is not a readable \.npy file"):
        read_array(tmp_path / "a.npy")


def test_pickles_in_arrays_are_never_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, 1], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=np.array([{}, 1], object))
    with pytest.raises(ValueError, match=r"a\.npy.*Python objects"):
        read_array(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"a\.npz.*Python objects"):
        read_archive(tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_stored_and_compressed(home, save):
    frames = np.random.default_rng(0).normal(size=(5, 44))
    frames[:, 0] = [0.05, 0.05, 0.05, 0.05, 0]  # the last frame may last 0
    (home / "motion").mkdir()
    save(home / "motion/deepmimic.npz", humanoid3d_walk=frames, run=frames.astype(">f4"))
    clips = data.mocap()
    assert list(clips) == ["humanoid3d_walk", "run"]
    assert clips["run"].fps == pytest.approx(20)
    assert torch.equal(clips["run"].root, torch.from_numpy(frames[:, 1:4].astype(np.float32)))


@pytest.mark.parametrize(
    ("column", "value"), [(0, 1e-50), (0, 1e9), (2, 1e39), (2, np.inf), (5, -1e300)]
)
def test_motion_out_of_range_is_refused_by_name(home, column, value):
    frames = np.full((5, 44), 0.1)
    frames[:, column] = value
    (home / "motion").mkdir()
    np.savez(home / "motion/deepmimic.npz", walk=frames)
    with pytest.raises(ValueError, match=r"deepmimic\.npz: walk"):
        data.mocap()


# --- words ----------------------------------------------------------------------------------------


def test_text_with_a_byte_order_mark_and_other_line_ends(home):
    (home / "text").mkdir()
    (home / "text/tinyshakespeare.txt").write_bytes(b"\xef\xbb\xbfFirst\r\nsecond\rthird\n")
    assert data.text("tinyshakespeare") == "First\nsecond\nthird\n"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xe9t\xe9", "\u00e9t\u00e9".encode("utf-16")])
def test_text_that_is_none_is_refused_by_name(home, content):
    (home / "text").mkdir()
    (home / "text/tinyshakespeare.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"tinyshakespeare\.txt"):
        data.text("tinyshakespeare")


def test_json_and_text_name_their_file(tmp_path):
    path = tmp_path / "a.json"
    for content in (b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json is not a readable JSON file") as caught:
            read_json(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    path.write_text(json.dumps({"a": 1}), encoding="utf-8-sig")
    assert read_json(path) == {"a": 1}
    for read in (read_json, read_text, read_array, read_archive):
        with pytest.raises(FileNotFoundError, match="absent"):
            read(tmp_path / "absent")
