"""Wavefront OBJ files: their vertices and their faces; all else (materials, textures) is left."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gentok.data.files import reading
from gentok.data.polygons import FARTHEST, Surface


def read_obj(path: Path) -> Surface:
    """The polygons of an OBJ file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line cannot be read, an index leads nowhere, a vertex is not finite, or
            there is no face.
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
    with reading(path, "OBJ file"):
        return Surface(
            np.array(vertices),
            np.array([len(ring) for ring in polygons]),
            np.array([corner for ring in polygons for corner in ring]),
        )


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
