"""Motion capture and meshes, from the folder GENTOK_DATA.

Motion: the clips of DeepMimic (Peng et al. 2018), on the skeleton of `gentok.data.motion`. Meshes:
Wavefront OBJ files, such as the teapot or the Stanford bunny.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentok.data import folder
from gentok.data.motion import JOINTS, Motion, quaternion

MOCAP = "motion/deepmimic.npz"
WIDTH = 44  # duration 1, root position 3, root quaternion 4, then the joints
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
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is not a readable .npz file: {error}") from error
    for name, array in arrays.items():
        if array.ndim != 2 or array.shape[1] != WIDTH or len(array) < 2:
            raise ValueError(f"{path}: {name} must be (frames, {WIDTH}), got {array.shape}")
    return {n: _to_motion(torch.from_numpy(a.astype(np.float32)), n) for n, a in arrays.items()}


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
    """Vertices and faces of an OBJ file; polygons become fans of triangles.

    Raises:
        ValueError: if a line cannot be read, an index leads nowhere, or there is no face.
    """
    vertices, faces = [], []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        kind, *parts = line.split() or [""]
        try:
            if kind == "v":
                x, y, z = (float(p) for p in parts[:3])
                vertices.append((x, y, z))
            elif kind == "f":
                corner = [int(p.split("/")[0]) for p in parts]
                # Indices count from 1; negative ones count back from the latest vertex.
                corner = [c - 1 if c > 0 else len(vertices) + c for c in corner]
                faces += [(corner[0], b, c) for b, c in zip(corner[1:], corner[2:], strict=False)]
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}, line {number} cannot be read: {line.strip()!r}") from error
    if not faces or not 0 <= min(map(min, faces)) <= max(map(max, faces)) < len(vertices):
        raise ValueError(f"{path}: faces must name its {len(vertices)} vertices and be at least 1")
    points = torch.tensor(vertices)
    low, high = points.amin(0), points.amax(0)
    points = (points - (low + high) / 2) / ((high - low).max() / 2)
    return Mesh(points, torch.tensor(faces))


def meshes() -> dict[str, Mesh]:
    """All OBJ files of GENTOK_DATA/meshes, by name; each file keeps its own axes.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if one of them is damaged.
    """
    place = folder.find("meshes")
    files = sorted(place.glob("*.obj")) if place else []
    if not files:
        raise folder.missing("meshes (Wavefront OBJ files)", "meshes/*.obj")
    return {path.stem: read_obj(path) for path in files}
