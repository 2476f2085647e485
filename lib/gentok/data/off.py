"""Object File Format, the text form (Geomview's manual, "OFF Files"): ModelNet's meshes.

A keyword, the numbers of vertices, faces and edges, then a line a vertex and a line a face. Letters
before ``OFF`` say what follows the coordinates of a vertex: ST a place in a texture, C a colour, N
a normal. They do not matter here. Many files of ModelNet glue the keyword to the numbers
(``OFF490 518 0``).
"""

import re
from pathlib import Path

import numpy as np

from gentok.data.files import reading
from gentok.data.polygons import Surface

KEYWORD = re.compile(r"\s*(?:ST)?C?N?(4?)(n?)OFF(?=[\s\d])[ \t]*(BINARY)?")


def read_off(path: Path) -> Surface:
    """The polygons of an OFF file; without faces it is a cloud of points.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, cut short, binary, or not of three dimensions.
    """
    with reading(path, "OFF file"):
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        lines = [line for line in text.splitlines() if line and not line.isspace()]
        if "#" in text:
            lines = [line.partition("#")[0].strip() for line in lines]
            lines = [line for line in lines if line]
        head = lines[0] + "\n" if lines else ""
        keyword = KEYWORD.match(head)
        if not keyword:
            raise ValueError(f"it begins with {text[:20]!r}; accepted: OFF")
        homogeneous, dimensions, binary = keyword.groups()
        if dimensions or binary:
            raise ValueError("accepted: text, in three dimensions")
        glued = head[keyword.end() :].strip()
        counts, *rows = ([glued] if glued else []) + lines[1:]
        return _surface(counts, rows, width=4 if homogeneous else 3)


def _surface(counts: str, rows: list[str], width: int) -> Surface:
    """Rows of ``width`` coordinates and more, then rows of polygons: their length, their corners.

    Homogeneous coordinates (x, y, z, w) are the point (x, y, z) / w.
    """
    vertices, faces = (int(word) for word in counts.split()[:2])  # edges: not used, may be absent
    if min(vertices, faces) < 0 or vertices + faces > len(rows):
        raise ValueError(f"{vertices} vertices and {faces} faces stated, {len(rows)} lines found")
    numbers = [word for row in rows[:vertices] for word in row.split()[:width]]
    corners = np.array(numbers, dtype=np.float64).reshape(vertices, width)
    if width == 4:
        with np.errstate(divide="ignore", invalid="ignore"):  # a surface refuses what comes of it
            corners = corners[:, :3] / corners[:, 3:]
    return Surface(corners, *_polygons(rows[vertices : vertices + faces]))


def _polygons(rows: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``n``, then n corners; a colour may follow -> (F,) sizes, corners one after another.

    All numbers of a kind are converted at once.
    """
    sizes = np.array([row.split(None, 1)[0] for row in rows], dtype=np.int64)
    ends = (sizes + 1).tolist()
    words = [word for row, end in zip(rows, ends, strict=True) for word in row.split()[1:end]]
    if sizes.min(initial=3) < 3 or len(words) != sizes.sum():
        raise ValueError("a face must state three corners or more, and name as many")
    return sizes, np.array(words, dtype=np.int64)
