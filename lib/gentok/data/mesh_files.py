"""Meshes of one's own: OBJ, OFF and PLY files, by one way from the bytes to checked triangles.

No file is opened because another names it: materials and textures are left alone.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentok.data import folder
from gentok.data.files import reading
from gentok.data.obj import read_obj
from gentok.data.off import read_off
from gentok.data.ply import read_ply
from gentok.data.polygons import Surface

READERS: dict[str, Callable[[Path], Surface]] = {
    ".obj": read_obj,
    ".off": read_off,
    ".ply": read_ply,
}


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: (V, 3), float32; the bounding box is centred at 0 and its longest side is 2.
        faces: (F, 3), int64 indices.
    """

    vertices: Tensor
    faces: Tensor


def is_mesh(path: Path) -> bool:
    """Whether the name ends as that of a mesh does."""
    return path.suffix.lower() in READERS


def read_surface(path: Path) -> Surface:
    """The vertices and polygons of a file, which its ending says how to read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another ending, or is damaged.
    """
    if not is_mesh(path):
        raise ValueError(f"{path} is no mesh; accepted: {', '.join(READERS)}")
    return READERS[path.suffix.lower()](path)


def read_mesh(path: Path) -> Mesh:
    """The triangles of a file; polygons are cut.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another ending, is damaged, or its faces have no area.
    """
    return as_mesh(read_surface(path), path)


def as_mesh(surface: Surface, path: Path) -> Mesh:
    """A surface as triangles, moved and scaled into [-1, 1]^3.

    Raises:
        ValueError: if its faces have no area; ``path`` names the file.
    """
    corners = surface.corners
    with reading(path, "mesh"):
        faces = surface.triangles()
        low, high = corners.min(0), corners.max(0)
        if not (size := (high - low).max()) > 0 or not _area(corners, faces) > 0:
            raise ValueError("its faces have no area")
    points = torch.from_numpy((corners - (low + high) / 2) / (size / 2)).float()
    return Mesh(points, torch.from_numpy(faces))


def _area(corners: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (corners[faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def meshes() -> dict[str, Mesh]:
    """All OBJ, OFF and PLY files of GENTOK_DATA/meshes, by name; each file keeps its own axes.

    Of two files that differ in their endings alone the second goes by its whole name. A damaged one
    is named in a warning and left out.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if all of them are damaged.
    """
    place = folder.find("meshes")
    files = sorted(path for path in place.glob("*") if is_mesh(path)) if place else []
    if not files:
        raise folder.missing("meshes (OBJ, OFF or PLY files)", "meshes/*.obj")
    found: dict[str, Mesh] = {}
    for path in files:
        try:
            found[path.name if path.stem in found else path.stem] = read_mesh(path)
        except ValueError as error:
            fault = error
            warnings.warn(f"{error}; it is left out", stacklevel=2)
    if not found:
        raise ValueError(f"none of {len(files)} meshes can be read; the last: {fault}")
    return found
