"""Wavefront OBJ files: their vertices and their faces; all else (materials, textures) is left.

All numbers of a kind are converted at once. Where that fails, the lines are read one by one, to say
which of them is at fault.
"""

import re
from pathlib import Path

import numpy as np

from gentok.data.files import reading
from gentok.data.polygons import FARTHEST, Surface

COMMENT = re.compile("#[^\n]*")


def read_obj(path: Path) -> Surface:
    """The polygons of an OBJ file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line cannot be read, an index leads nowhere, a vertex is not finite, or
            there is no face.
    """
    lines = _lines(path)
    kinds = [_kind(line) for line in lines]
    vertices, faces = ([i for i, kind in enumerate(kinds) if kind == sought] for sought in "vf")
    try:
        corners = _vertices([lines[i] for i in vertices])
        # A face counts back from the latest vertex before it.
        sizes, rings = _faces([lines[i] for i in faces], np.searchsorted(vertices, faces))
    except (ValueError, OverflowError) as error:
        number, line = _first_fault(lines)
        raise ValueError(f"{path}, line {number} cannot be read: {line!r:.80}") from error
    if not len(rings) or rings.max() >= len(corners):
        raise ValueError(f"{path}: faces must name its {len(corners)} vertices and be at least 1")
    with reading(path, "OBJ file"):
        return Surface(corners, sizes, rings)


def _lines(path: Path) -> list[str]:
    """Lines without comments; what a backslash joins stands in the last of its lines."""
    with reading(path, "OBJ file"):
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.strip() for line in COMMENT.sub("", text).split("\n")]
    for i in range(len(lines) - 1) if "\\" in text else ():
        if lines[i].endswith("\\"):
            lines[i], lines[i + 1] = "", f"{lines[i][:-1]} {lines[i + 1]}".strip()
    return lines


def _kind(line: str) -> str:
    """What a line begins with: one letter if that is its first word, or else two."""
    return line[:2].rstrip()


def _vertices(lines: list[str]) -> np.ndarray:
    """Lines ``v x y z`` -> (V, 3) float64; a weight or a colour may follow."""
    words = [word for line in lines for word in line.split()[1:4]]
    corners = np.array(words, dtype=np.float64).reshape(len(lines), 3)
    if not np.abs(corners).max(initial=0.0) <= FARTHEST:  # nor NaN
        raise ValueError("not finite")
    return corners


def _faces(lines: list[str], known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lines ``f a b c``, and how many vertices come before each -> sizes (F,), corners from 0."""
    bodies = [line[1:] for line in lines]
    sizes = np.array([len(body.split()) for body in bodies], dtype=np.int64)
    words = " ".join(bodies).split()
    if "/" in "".join(words):  # corner/texture/normal
        words = [word.partition("/")[0] for word in words]
    given = np.array(words, dtype=np.int64)
    rings = np.where(given > 0, given - 1, np.repeat(known, sizes) + given)
    if sizes.min(initial=3) < 3 or not given.all() or rings.min(initial=0) < 0:
        raise ValueError("no polygon")
    return sizes, rings


def _first_fault(lines: list[str]) -> tuple[int, str]:
    """The first line that cannot be read, and its number from 1."""
    known = 0
    for number, line in enumerate(lines, 1):
        try:
            if _kind(line) == "v":
                _vertices([line])
                known += 1
            elif _kind(line) == "f":
                _faces([line], np.array([known]))
        except (ValueError, OverflowError):
            return number, line
    return len(lines), lines[-1]
