"""Motion capture and meshes, from the folder GENTOK_DATA.

Motion: the clips of DeepMimic (Peng et al. 2018), on the skeleton of `gentok.data.motion`. Meshes:
Wavefront OBJ files, such as the teapot or the Stanford bunny.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentok.data import folder
from gentok.data.files import read_archive, reading
from gentok.data.motion import JOINTS, Motion, quaternion
from gentok.data.polygons import triangulate

MOCAP = "motion/deepmimic.npz"
WIDTH = 44  # duration 1, root position 3, root quaternion 4, then the joints
FARTHEST = 1e30  # of a coordinate of a mesh: areas are products of two
SHORTEST, LONGEST = 1e-4, 60.0  # seconds that a frame can last
# In the file's order; 4 numbers are a quaternion, 1 is an angle about z (knees and elbows).
CHANNELS = (
    *(("chest", 4), ("neck", 4)),
    *(("right_hip", 4), ("right_knee", 1), ("right_ankle", 4)),
    *(("right_shoulder", 4), ("right_elbow", 1)),
    *(("left_hip", 4), ("left_knee", 1), ("left_ankle", 4)),
    *(("left_shoulder", 4), ("left_elbow", 1)),
)


def _to_motion(frames: Tensor, name: str) -> Motion:
    """Rows of 44 numbers to a clip; its frame rate is one over the frames' median duration."""
    rotations = torch.zeros(len(frames), len(JOINTS), 4)
    rotations[..., 0] = 1.0
    rotations[:, 0] = frames[:, 4:8]
    at = 8
    for joint, width in CHANNELS:
        value = frames[:, at : at + width]
        rotations[:, JOINTS.index(joint)] = value if width == 4 else quaternion(value[:, 0], "z")
        at += width
    rotations = torch.nn.functional.normalize(rotations, dim=-1)
    words = name.removeprefix("sie_").removeprefix("humanoid3d_").replace("_", " ")
    fps = 1.0 / float(frames[:, 0].median())
    return Motion(frames[:, 1:4].clone(), rotations, fps, (words,))


def mocap() -> dict[str, Motion]:
    """Motion-capture clips by name: walking, running, kicks, flips, spins and others.

    Returns:
        name -> Motion of one clip: root (T, 3) in metres, rotations (T, 18, 4), its own ``fps``,
        and the name in words as its caption.

    Raises:
        FileNotFoundError: if the file is not in the folder; it is not on the hub.
        ValueError: if the file is damaged or holds arrays of another width.
    """
    path = folder.find(MOCAP)
    if path is None:
        raise folder.missing("motion capture (DeepMimic's clips, frames x 44)", MOCAP)
    arrays = read_archive(path)
    return {name: _to_motion(_frames(a, f"{path}: {name}"), name) for name, a in arrays.items()}


def _frames(array: np.ndarray, where: str) -> Tensor:
    """A clip as stored, (T, 44) float32, once it is known to be one."""
    if array.ndim != 2 or array.shape[1] != WIDTH or len(array) < 2:
        raise ValueError(f"{where} must be (frames, {WIDTH}), got {array.shape}")
    if array.dtype.kind not in "fiu" or not float(np.abs(array).max()) <= np.finfo(np.float32).max:
        raise ValueError(f"{where} must hold finite numbers, got {array.dtype}")
    frames = torch.from_numpy(array.astype(np.float32))
    # The last frame may last 0.
    if frames[:, 0].min() < 0 or not SHORTEST <= frames[:, 0].median() <= LONGEST:
        raise ValueError(f"{where} has frames of {frames[:, 0].min():g} seconds")
    return frames


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: (V, 3), float32; the bounding box is centred at 0 and its longest side is 2.
        faces: (F, 3), int64 indices.
    """

    vertices: Tensor
    faces: Tensor


def read_obj(path: Path) -> Mesh:
    """Vertices and faces of an OBJ file; polygons are cut into triangles.

    Raises:
        ValueError: if a line cannot be read, an index leads nowhere, a vertex is not finite, there
            is no face, or the faces have no area.
    """
    vertices, polygons = [], []
    for number, line in _lines(path):
        kind, *parts = line.split() or [""]
        try:
            if kind == "v":
                vertices.append(_vertex(parts))
            elif kind == "f":
                polygons.append(_polygon(parts, len(vertices)))
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}, line {number} cannot be read: {line!r:.80}") from error
    if not polygons or max(map(max, polygons)) >= len(vertices):
        raise ValueError(f"{path}: faces must name its {len(vertices)} vertices and be at least 1")
    corners = np.array(vertices)  # float64: coordinates of maps lie far from 0
    faces = [
        (ring[a], ring[b], ring[c]) for ring in polygons for a, b, c in triangulate(corners[ring])
    ]
    low, high = corners.min(0), corners.max(0)
    if not (size := (high - low).max()) > 0 or not _area(corners, np.array(faces)) > 0:
        raise ValueError(f"{path}: its faces have no area")
    points = torch.from_numpy((corners - (low + high) / 2) / (size / 2)).float()
    return Mesh(points, torch.tensor(faces))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments; a backslash at the end joins the next line to a line."""
    with reading(path, "OBJ file"):
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    number, joined = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        line = joined + line.partition("#")[0].rstrip()
        joined = line[:-1] + " " if line.endswith("\\") else ""
        if not joined:
            yield number, line
    yield number, joined


def _vertex(parts: list[str]) -> tuple[float, float, float]:
    x, y, z = (float(p) for p in parts[:3])
    if not all(abs(c) <= FARTHEST for c in (x, y, z)):  # nor NaN
        raise ValueError("not finite")
    return x, y, z


def _polygon(parts: list[str], known: int) -> list[int]:
    """Corners from 0; the file counts from 1, or back from the latest of ``known`` vertices."""
    given = [int(p.split("/")[0]) for p in parts]
    corners = [c - 1 if c > 0 else known + c for c in given]
    if len(corners) < 3 or 0 in given or min(corners) < 0:
        raise ValueError("no polygon")
    return corners


def _area(corners: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (corners[faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def meshes() -> dict[str, Mesh]:
    """All OBJ files of GENTOK_DATA/meshes, by name; each file keeps its own axes.

    A damaged one is named in a warning and left out.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if all of them are damaged.
    """
    place = folder.find("meshes")
    files = sorted(place.glob("*.obj")) if place else []
    if not files:
        raise folder.missing("meshes (Wavefront OBJ files)", "meshes/*.obj")
    found = {}
    for path in files:
        try:
            found[path.stem] = read_obj(path)
        except ValueError as error:
            fault = error
            warnings.warn(f"{error}; it is left out", stacklevel=2)
    if not found:
        raise ValueError(f"none of {len(files)} meshes can be read; the last: {fault}")
    return found
