"""The polygon file format (Turk 1994), as text and in binary of either order of bytes.

A header of text lists elements (vertices, faces, what else there is), how many there are, and the
properties of each: a number, or a list of numbers led by its length. The rows follow in that order.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gentok.data.files import reading
from gentok.data.polygons import Surface

KINDS = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float": "f4",
    "double": "f8",
    "float32": "f4",
    "float64": "f8",
}
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
END = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE)
CORNERS = ("vertex_indices", "vertex_index")  # what exporters call the list of a face
LARGEST = 2**32  # of a whole number
REGULAR = 16  # corners up to which polygons of one length are read at once


@dataclass(frozen=True)
class Property:
    """A number of a row, or a list of such numbers if ``length`` says what its length is."""

    name: str
    kind: str
    length: str | None = None


@dataclass(frozen=True)
class Element:
    """Rows of a kind: how many, and what each holds."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


def read_ply(path: Path) -> Surface:
    """The polygons of a PLY file; without faces it is a cloud of points.

    Colours, normals and textures are passed over, and no file that it names is opened.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, cut short, without vertices, or made of strips of triangles.
    """
    with reading(path, "PLY file"):
        data = path.read_bytes()
        end = END.search(data)
        if not data.startswith(b"ply") or not end:
            raise ValueError("accepted: a header from 'ply' to 'end_header'")
        order, elements = _header(data[: end.start()].decode("ascii", "replace").splitlines())
        body = _Words(data[end.end() :]) if order == "" else _Bytes(data[end.end() :], order)
        corners, sizes, rings = None, np.zeros(0, np.int64), np.zeros(0, np.int64)
        for element in elements:
            if element.name == "vertex":
                corners = _vertices(body, element)
            elif element.name == "face":
                sizes, rings = _lists(body, element, _corners_of(element))
            else:
                _lists(body, element, None)
        if corners is None:
            raise ValueError("it has no element 'vertex'")
        return Surface(corners, sizes, rings)


def _header(lines: list[str]) -> tuple[str, list[Element]]:
    """The order of bytes ("" for text) and the elements."""
    order, elements = None, []
    for line in lines[1:]:
        match line.split():
            case ["format", name, _]:
                order = FORMATS[name]
            case ["element", name, count] if int(count) >= 0:
                elements.append(Element(name, int(count)))
            case ["property", "list", length, kind, name] if KINDS[length][0] != "f":
                elements[-1].properties.append(Property(name, KINDS[kind], KINDS[length]))
            case ["property", kind, name]:
                elements[-1].properties.append(Property(name, KINDS[kind]))
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise ValueError(f"line {line!r:.80} of its header")
    names = [element.name for element in elements]
    if order is None or len(set(names)) < len(names) or "tristrips" in names:
        raise ValueError(f"it has elements {names}; accepted: a format, one 'vertex', one 'face'")
    if empty := [element.name for element in elements if not element.properties]:
        raise ValueError(f"element {empty[0]!r} has no properties")
    return order, elements


class _Bytes:
    """Rows of binary numbers."""

    def __init__(self, data: bytes, order: str):
        self.data, self.order, self.at = data, order, 0

    @property
    def left(self) -> int:
        """How many numbers there can still be, at most."""
        return len(self.data) - self.at

    def rows(self, kinds: list[str], count: int) -> list[np.ndarray]:
        """The next ``count`` rows: a column for each of ``kinds``."""
        row = np.dtype([(str(i), self.order + kind) for i, kind in enumerate(kinds)])
        if count * row.itemsize > self.left:
            raise ValueError(f"cut short: {count} rows of {row.itemsize} bytes, {self.left} left")
        block = np.frombuffer(self.data, np.uint8, count * row.itemsize, self.at).view(row)
        self.at += count * row.itemsize
        return [block[name] for name in row.names or ()]


class _Words:
    """Rows of numbers in words."""

    def __init__(self, data: bytes):
        self.words, self.at = data.split(), 0

    @property
    def left(self) -> int:
        """How many numbers there still are."""
        return len(self.words) - self.at

    def rows(self, kinds: list[str], count: int) -> list[np.ndarray]:
        """The next ``count`` rows: a column for each of ``kinds``."""
        size = count * len(kinds)
        if size > self.left:
            raise ValueError(f"cut short: {count} rows of {len(kinds)} words, {self.left} left")
        words = self.words[self.at : self.at + size]
        table = np.array(words, dtype=np.bytes_).astype(np.float64).reshape(count, len(kinds))
        self.at += size
        whole = [i for i, kind in enumerate(kinds) if kind[0] != "f"]
        if not (table[:, whole] == np.rint(table[:, whole]).clip(-LARGEST, LARGEST)).all():
            raise ValueError(f"a number that should be whole, up to {LARGEST}, is not")
        return list(table.T)


def _vertices(body: _Bytes | _Words, element: Element) -> np.ndarray:
    names = [p.name for p in element.properties]
    if any(p.length for p in element.properties) or not {"x", "y", "z"} <= set(names):
        raise ValueError(f"vertices of {names}; accepted: numbers, among them x, y and z")
    columns = body.rows([p.kind for p in element.properties], element.count)
    return np.stack([columns[names.index(axis)].astype(np.float64) for axis in "xyz"], axis=1)


def _corners_of(element: Element) -> str:
    found = [p.name for p in element.properties if p.name in CORNERS and p.length]
    if len(found) != 1:
        names = [p.name for p in element.properties]
        raise ValueError(f"faces of {names}; accepted: one list, called {' or '.join(CORNERS)}")
    return found[0]


Lists = tuple[np.ndarray, np.ndarray]  # the length of each (F,), and their numbers in one row


def _lists(body: _Bytes | _Words, element: Element, wanted: str | None) -> Lists:
    """Read the rows of an element; give one of its lists, or none."""
    at, sizes, numbers = body.at, [], []
    if element.count and (found := _regular(body, element, wanted)):
        return found
    body.at = at
    for _ in range(element.count):
        row = _row(body, element)
        if wanted:
            sizes.append(len(row[wanted]))
            numbers += row[wanted]
    return np.array(sizes, dtype=np.int64), np.array(numbers, dtype=np.int64)


def _row(body: _Bytes | _Words, element: Element) -> dict[str, list]:
    """One row, a list for each property."""
    row = {}
    for p in element.properties:
        count = 1 if p.length is None else int(body.rows([p.length], 1)[0][0])
        if not 0 <= count <= body.left:
            raise ValueError(f"a list of {count} numbers, {body.left} left")
        row[p.name] = body.rows([p.kind], count)[0].tolist()
    return row


def _regular(body: _Bytes | _Words, element: Element, wanted: str | None) -> Lists | None:
    """All rows at once, if every list is as long as that of the first row; else None."""
    at, first = body.at, _row(body, element)
    if any(len(numbers) > REGULAR for numbers in first.values()):
        return None
    body.at, kinds, lengths, places = at, [], {}, slice(0)
    for p in element.properties:
        if p.length is not None:
            lengths[len(kinds)] = len(first[p.name])
            kinds.append(p.length)
        if p.name == wanted:
            places = slice(len(kinds), len(kinds) + len(first[p.name]))
        kinds += [p.kind] * len(first[p.name])
    try:
        columns = body.rows(kinds, element.count)
    except ValueError:  # shorter lists follow, or the file is cut: a row after another tells
        return None
    if any((columns[i] != length).any() for i, length in lengths.items()):
        return None
    found = np.stack(columns[places], axis=1) if columns[places] else np.zeros((element.count, 0))
    sizes = np.full(element.count, found.shape[1], np.int64)
    return sizes, found.astype(np.int64).reshape(-1)
