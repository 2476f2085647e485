"""OFF and PLY meshes: what their formats allow, beside trimesh, and what is refused by name."""

import struct
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gentok import data
from gentok.data import clouds
from gentok.data.mesh_files import READERS, read_mesh, read_surface
from gentok.data.polygons import Surface

# An L of area 3, standing on edge, and a triangle beside it of area 1.
CORNERS = [(0, 0, 5), (2, 0, 5), (2, 1, 5), (1, 1, 5), (1, 2, 5), (0, 2, 5), (4, 0, 5), (4, 1, 5)]
POLYGONS = [[3, 4, 5, 0, 1, 2], [1, 6, 7], [1, 6, 7, 2]]
CUT_AREA = 3 + 1 + 2


def off(keyword="OFF\n", extra="", tail="", polygons=POLYGONS, ends="\n") -> bytes:
    """The shape as OFF: ``extra`` follows a vertex, ``tail`` a face."""
    lines = [f"{x} {y} {z} {extra}" for x, y, z in CORNERS]
    lines += [f"{len(ring)} {' '.join(map(str, ring))} {tail}" for ring in polygons]
    text = f"{keyword}{len(CORNERS)} {len(polygons)} 0\n" + "\n".join(lines) + "\n"
    return text.replace("\n", ends).encode()


def ply(
    form="ascii", colours=False, length="uchar", index="int", polygons=POLYGONS, number="float"
):
    """The shape as PLY, vertices and faces with or without colours, an edge at the end."""
    rgb = "".join(f"property uchar {c}\n" for c in ("red", "green", "blue")) if colours else ""
    head = (
        f"ply\nformat {form} 1.0\ncomment made here\nobj_info no end_header yet\n"
        f"element vertex {len(CORNERS)}\n"
        + "".join(f"property {number} {axis}\n" for axis in "xyz")
        + rgb
        + f"element face {len(polygons)}\nproperty list {length} {index} vertex_indices\n{rgb}"
        + "element edge 1\nproperty int vertex1\nproperty int vertex2\nend_header\n"
    ).encode()
    kinds = {"uchar": "B", "int": "i", "uint": "I", "ushort": "H", "float": "f", "double": "d"}
    rows = [[*((number, c) for c in corner), *[("uchar", 7)] * 3 * colours] for corner in CORNERS]
    for ring in polygons:
        rows.append(
            [(length, len(ring)), *((index, c) for c in ring), *[("uchar", 9)] * 3 * colours]
        )
    rows.append([("int", 0), ("int", 1)])
    if form == "ascii":
        return head + "\n".join(" ".join(str(n) for _, n in row) for row in rows).encode() + b"\n"
    order = "<" if "little" in form else ">"
    return head + b"".join(struct.pack(order + kinds[kind], n) for row in rows for kind, n in row)


FORMS = ("ascii", "binary_little_endian", "binary_big_endian")


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def area(surface: Surface) -> float:
    a, b, c = (surface.corners[surface.triangles()[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def is_the_shape(path):
    surface = read_surface(path)
    assert surface.corners.tolist() == [list(corner) for corner in CORNERS]
    begins = [0, *surface.sizes.cumsum()]
    assert [surface.rings[a:b].tolist() for a, b in pairwise(begins)] == POLYGONS
    assert area(surface) == pytest.approx(CUT_AREA)
    mesh = read_mesh(path)
    assert mesh.vertices.amin(0).tolist() == [-1, -0.5, 0] and mesh.faces.shape == (7, 3)


@pytest.mark.parametrize(
    ("keyword", "extra", "tail"),
    [
        ("OFF\n", "", ""),
        ("OFF", "", ""),  # glued to the numbers, as in ModelNet
        ("OFF ", "", ""),
        ("# by hand\n\nOFF # here\n# numbers\n", "# a vertex", "# a face"),
        ("COFF\n", "0.1 0.2 0.3 1", "255 0 0"),
        ("COFF\n", "10 20 30 255", "3"),
        ("NOFF\n", "0 0 1", "0.5 0.5 0.5 1"),
        ("STCNOFF\n", "0 0 1 1 2 3 255 0.5 0.5", ""),
        ("4OFF\n", "1", ""),
        ("\ufeffOFF\n", "", ""),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_kinds_of_off(tmp_path, keyword, extra, tail, ends):
    is_the_shape(put(tmp_path, "a.off", off(keyword, extra, tail, ends=ends)))


def test_homogeneous_coordinates_are_divided(tmp_path):
    path = put(tmp_path, "a.off", b"4OFF\n3 1 0\n2 0 0 2\n2 2 0 2\n0 2 0 2\n3 0 1 2\n")
    assert read_surface(path).corners.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("kinds", [("uchar", "int"), ("uchar", "uint"), ("int", "ushort")])
@pytest.mark.parametrize("number", ["float", "double"])
def test_kinds_of_ply(tmp_path, form, colours, kinds, number):
    is_the_shape(put(tmp_path, "a.ply", ply(form, colours, *kinds, number=number)))


@pytest.mark.parametrize("form", FORMS)
def test_windows_line_ends_and_older_names(tmp_path, form):
    head, body = ply(form).split(b"end_header\n")
    head = head.replace(b"vertex_indices", b"vertex_index").replace(b"\n", b"\r\n")
    is_the_shape(put(tmp_path, "a.PLY", head + b"end_header\r\n" + body))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("polygons", [[[0, 1, 2], [1, 6, 7]], [[1, 6, 7, 2], [0, 1, 2, 3]]])
def test_faces_of_one_size_and_what_follows_them(tmp_path, form, polygons):
    surface = read_surface(put(tmp_path, "a.ply", ply(form, polygons=polygons)))
    assert surface.rings.reshape(2, -1).tolist() == polygons


def test_polygons_of_other_sizes_that_fill_the_same_bytes(tmp_path):
    """Rows of 4, 3 and 5 corners are as long as three of 4."""
    polygons = [[0, 1, 2, 3], [0, 3, 4], [0, 1, 2, 3, 4]]
    for form in FORMS:
        surface = read_surface(put(tmp_path, f"{form}.ply", ply(form, polygons=polygons)))
        assert surface.sizes.tolist() == [4, 3, 5] and surface.rings.tolist() == sum(polygons, [])


@pytest.mark.parametrize("form", ["off", "ascii", "binary"])
def test_what_trimesh_writes(tmp_path, form):
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(2, 1.5)
    ball.visual.vertex_colors = [10, 20, 30, 255]
    written = ball.export(
        file_type="off" if form == "off" else "ply", **({} if form == "off" else {"encoding": form})
    )
    content = written.encode() if isinstance(written, str) else written
    path = put(tmp_path, "ball.off" if form == "off" else "ball.ply", content)
    surface = read_surface(path)
    np.testing.assert_allclose(surface.corners, ball.vertices, atol=1e-6)
    assert surface.triangles().tolist() == ball.faces.tolist()
    assert area(surface) == pytest.approx(ball.area, rel=1e-5)
    theirs = trimesh.load(path, process=False)
    np.testing.assert_allclose(surface.corners, theirs.vertices, atol=1e-12)


def test_no_file_is_opened_because_a_file_names_it(tmp_path, monkeypatch):
    content = ply().replace(b"comment made here", b"comment TextureFile /etc/passwd")
    path, opened = put(tmp_path, "a.ply", content), []
    real = type(path).read_bytes
    monkeypatch.setattr(type(path), "read_bytes", lambda p: opened.append(p) or real(p))
    read_mesh(path)
    assert opened == [path]


HEAD = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
REFUSED = {
    "empty.off": b"",
    "obj.off": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    "plane.off": b"nOFF\n2\n3 1 0\n0 0\n1 0\n0 1\n3 0 1 2\n",
    "binary.off": b"OFF BINARY\n" + bytes(12),
    "many.off": b"OFF\n3 999999999999 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    "negative.off": off(polygons=[[0, 1, -1]]),
    "beyond.off": off(polygons=[[0, 1, 8]]),
    "two.off": off(polygons=[[0, 1]]),
    "nan.off": off().replace(b"4 0 5", b"4 nan 5"),
    "far.off": off().replace(b"4 0 5", b"4 1e31 5"),
    "at_infinity.off": off("4OFF\n", "0"),
    "narrow.off": off().replace(b"4 0 5", b"4 0"),
    "flat.off": off(polygons=[[0, 1, 0]]),
    "points.off": off(polygons=[]),
    "words.off": off().replace(b"4 0 5", b"4 zero 5"),
    "empty.ply": b"",
    "headless.ply": ply().partition(b"end_header\n")[2],
    "endless.ply": ply().partition(b"end_header\n")[0],
    "format.ply": ply().replace(b"format ascii", b"format binary_middle_endian"),
    "kind.ply": ply().replace(b"property float x", b"property quad x"),
    "axis.ply": ply().replace(b"property float z", b"property float w"),
    "list_of_floats.ply": ply().replace(b"list uchar", b"list float"),
    "corners.ply": ply().replace(b"vertex_indices", b"polygon"),
    "many.ply": ply().replace(b"element vertex 8", b"element vertex 99999999999999"),
    "many_faces.ply": ply().replace(b"element face 3", b"element face 99999999999999"),
    "minus.ply": ply().replace(b"element face 3", b"element face -3"),
    "nothing.ply": ply().replace(b"element edge", b"element void 99999999999\nelement edge"),
    "strips.ply": ply().replace(b"element edge", b"element tristrips"),
    "twice.ply": ply().replace(b"element edge", b"element vertex"),
    "negative.ply": ply(polygons=[[0, 1, -1]]),
    "beyond.ply": ply(polygons=[[0, 1, 8]]),
    "two.ply": ply(polygons=[[0, 1]]),
    "half.ply": ply().replace(b"\n3 1 6 7", b"\n3 1 6.5 7"),
    "nan.ply": ply().replace(b"\n4 0 5", b"\n4 nan 5"),
    "junk.ply": ply().replace(b"\n4 0 5", b"\n4 junk 5"),
    "points.ply": ply(polygons=[]),
    "orphan.ply": HEAD.replace("element vertex 3\n", "").encode() + b"end_header\n",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    path = put(tmp_path, name, REFUSED[name])
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as caught:
        read_mesh(path)
    assert "\n" not in str(caught.value)


SOURCES = {
    "off": off("COFF\n", "1 2 3 4"),
    "ascii": ply("ascii", True),
    "little": ply("binary_little_endian", True),
    "big": ply("binary_big_endian"),
}


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_damage_is_read_right_or_refused_by_name(tmp_path, source, draw):
    content = SOURCES[source]
    kind = draw.draw(st.sampled_from(["cut", "flip", "magic", "insert"]))
    at = draw.draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        content = content[:at]
    elif kind == "flip":
        bit = 1 << draw.draw(st.integers(0, 7))
        content = content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
    elif kind == "magic":
        content = draw.draw(st.binary(min_size=1, max_size=8)) + content[8:]
    else:
        content = content[:at] + draw.draw(st.binary(max_size=20)) + content[at:]
    path = put(tmp_path, f"a.{'off' if source == 'off' else 'ply'}", content)
    try:
        mesh = read_mesh(path)
    except ValueError as error:
        assert path.name in str(error) and "\n" not in str(error)
    else:
        assert mesh.vertices.isfinite().all() and mesh.vertices.abs().max() <= 1 + 1e-5
        assert 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.vertices)


def test_meshes_of_all_kinds_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    put(tmp_path, "meshes/l.off", off())
    put(tmp_path, "meshes/l.ply", ply("binary_big_endian"))
    put(tmp_path, "meshes/square.obj", b"v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n")
    put(tmp_path, "meshes/bad.ply", ply()[:200])
    with pytest.warns(UserWarning, match=r"bad\.ply.*left out"):
        found = data.meshes()
    assert set(found) == {"l", "l.ply", "square"}
    torch.testing.assert_close(found["l"].vertices, found["l.ply"].vertices)


def test_clouds_of_meshes(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    put(tmp_path, "clouds/l/a.off", off())
    put(tmp_path, "clouds/scan/b.ply", ply(polygons=[]))
    put(tmp_path, "clouds/scan/readme.txt", b"not a cloud")
    files, labels, names = clouds.cloud_files(8)
    assert [path.name for path in files] == ["a.off", "b.ply"]
    assert names == ("l", "scan") and labels.tolist() == [0, 1]
    drawn = clouds.read_cloud(files[0], 8)
    assert drawn.shape == (clouds.MESH_POINTS, 3) and drawn.norm(dim=1).max() == pytest.approx(1)
    torch.testing.assert_close(drawn, clouds.read_cloud(files[0], 8))
    scan = clouds.read_cloud(files[1], 8)
    torch.testing.assert_close(scan, clouds.normalize(torch.tensor(CORNERS).float()))
    with pytest.raises(ValueError, match=r"b\.ply must be \(9 or more, 3\)"):
        clouds.read_cloud(files[1], 9)
    put(tmp_path, "clouds/l/a.off", off(polygons=[[0, 1, 0]]))
    with pytest.raises(ValueError, match=r"a\.off.*no area"):
        clouds.read_cloud(files[0], 8)


def test_points_are_spread_over_the_area(tmp_path):
    """The L of area 3 and what lies beside it, 1 + 2: half of the points each."""
    cloud = clouds.read_cloud(put(tmp_path, "a.ply", ply()), 8).double()
    beside = (cloud[:, 0] - cloud[:, 0].min()) / (cloud[:, 0].max() - cloud[:, 0].min()) > 0.5
    assert float(beside.double().mean()) == pytest.approx(0.5, abs=0.03)


def test_other_endings_are_named(tmp_path):
    assert set(READERS) == {".obj", ".off", ".ply"}
    with pytest.raises(ValueError, match=r"a\.stl is no mesh; accepted: \.obj, \.off, \.ply"):
        read_mesh(put(tmp_path, "a.stl", b"solid"))


HEAD_OF_OBJ = "# a square\nv 0 0 0 # corner\nv 1 0 0\n\tv 1 1 0 1 0 0\nvn 0 0 1\nv \\\n0 1 0\n"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("f 1 2 3 4", None),
        ("f 1/7/1 2//1 3/2 -1", None),
        ("f -4 -3 \\\n -2", None),
        ("f", "'f'"),
        ("v", "'v'"),
        ("v 1 2", "'v 1 2'"),
        ("v 1 2 nan", "'v 1 2 nan'"),
        ("f 1 2", "'f 1 2'"),
        ("f 0 1 2", "'f 0 1 2'"),
        ("f 1 2 -5", "'f 1 2 -5'"),
        ("f 1 2 99999999999999999999", "'f 1 2 9999"),
        ("f 1 2 x/3", "'f 1 2 x/3'"),
    ],
)
def test_a_faulty_line_of_obj_is_named_by_its_number(tmp_path, line, fault):
    path = put(tmp_path, "a.obj", f"{HEAD_OF_OBJ}f 1 2 3\n{line}\nf 1 2 4\n".encode())
    if fault is None:
        surface = read_surface(path)
        corners = len(line.replace("\\", "").split()) - 1
        assert surface.sizes.tolist() == [3, corners, 3]
        assert surface.rings[3:-3].tolist() == [0, 1, 2, 3][:corners]
    else:
        with pytest.raises(ValueError, match=rf"a\.obj, line 9 cannot be read: {fault}"):
            read_surface(path)
