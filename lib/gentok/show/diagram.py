"""Drawn architectures, one style for the book: boxes with names of the code, shapes on the arrows.

What a paper adds is filled in orange *and* marked "new"; a frozen part has a dashed frame and a
padlock, a trained one a plain frame; data stand without a frame. The picture is plain SVG with a
background of its own, so it reads alike on a light and on a dark page, and it names no font that a
reader would have to have.

Places are pixels, x to the right and y down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

PAPER, INK, QUIET = "#fbfaf6", "#222222", "#55585c"
FILL = {"plain": "#ffffff", "new": "#fde3bd", "data": "#e6eef5"}
NEW_EDGE = "#9c4a00"
SANS = "system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, 'DejaVu Sans Mono', Consolas, Menlo, monospace"
LETTER = {True: 0.61, False: 0.57}  # width in sizes, of the widest usual fonts: mono or not
LINE = 17  # pixels from line to line
TOKEN = {  # fill and the mark inside, so that no kind is told by its colour alone
    "new": ("#f5b562", "+"),
    "old": ("#9dc3e0", ""),
    "masked": ("#ffffff", "?"),
}

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A drawn box and the middles of its sides, where arrows begin and end."""

    x: float
    y: float
    width: float
    height: float

    def left(self, part: float = 0.5) -> Point:
        """Point on the left side, ``part`` of the way down."""
        return self.x, self.y + part * self.height

    def right(self, part: float = 0.5) -> Point:
        """Point on the right side, ``part`` of the way down."""
        return self.x + self.width, self.y + part * self.height

    def top(self, part: float = 0.5) -> Point:
        """Point on the upper side, ``part`` of the way to the right."""
        return self.x + part * self.width, self.y

    def bottom(self, part: float = 0.5) -> Point:
        """Point on the lower side, ``part`` of the way to the right."""
        return self.x + part * self.width, self.y + self.height


class Diagram:
    """A drawing in the making.

    Args:
        title: what it is, drawn above.
        description: what is seen, read aloud to those who do not see it.
        width, height: pixels; everything must fit inside.
    """

    def __init__(self, title: str, description: str, width: int, height: int):
        self.title, self.description = title, description
        self.width, self.height = width, height
        self._parts: list[str] = []
        self._kinds: set[str] = set()

    def box(
        self,
        name: str,
        place: Point,
        size: Point,
        lines: Sequence[str] = (),
        new: bool = False,
        frozen: bool = False,
    ) -> Box:
        """A part of the model.

        Args:
            name: as the code has it; ``lines``: what it does, in words, below.
            place: its upper left corner; ``size``: width and height.
            new: what the paper adds; ``frozen``: not trained here.

        Raises:
            ValueError: if it leaves the drawing, or its words do not fit.
        """
        box = self._inside(Box(*place, *size), name)
        self._kinds |= {kind for kind, on in (("new", new), ("frozen", frozen)) if on} or {"plain"}
        edge, thick = (NEW_EDGE, 2.4) if new else (INK, 1.4)
        dash = ' stroke-dasharray="6 4"' if frozen else ""
        fill = FILL["new" if new else "plain"]
        self._rect(box, f'rx="6" fill="{fill}" stroke="{edge}" stroke-width="{thick}"{dash}')
        self._words(box, name, lines, mono=True)
        if new:
            self._text((box.x + 8, box.y + 14), "new", 11, fill=NEW_EDGE, weight=700)
        if frozen:
            self._lock(box.x + box.width - 18, box.y + 7)
        return box

    def data(self, name: str, place: Point, size: Point, lines: Sequence[str] = ()) -> Box:
        """Something that flows: a picture, codes, features. Arguments as for :meth:`box`."""
        box = self._inside(Box(*place, *size), name)
        self._kinds.add("data")
        self._rect(box, f'rx="{min(box.height / 2, 16)}" fill="{FILL["data"]}"')
        self._words(box, name, lines, mono=False)
        return box

    def tokens(self, place: Point, rows: Sequence[Sequence[str]], side: int = 20) -> Box:
        """A grid of tokens, each ``"new"``, ``"old"`` or ``"masked"``.

        Raises:
            ValueError: if the grid leaves the drawing, or a token is of another kind.
        """
        x, y = place
        box = self._inside(Box(x, y, side * len(rows[0]), side * len(rows)), "tokens")
        for r, row in enumerate(rows):
            for c, kind in enumerate(row):
                if kind not in TOKEN:
                    raise ValueError(f"a token is one of {list(TOKEN)}, got {kind!r}")
                self._token((x + c * side, y + r * side), kind, side)
        return box

    def arrow(self, *points: Point, dashed: bool = False) -> None:
        """An arrow along points, its corners rounded and its head at the last one.

        Args:
            points: at least two.
            dashed: a path of its own kind, such as a gradient or what an earlier step left.
        """
        dash = ' stroke-dasharray="3 4"' if dashed else ""
        self._parts.append(
            f'<path d="{rounded(points)}" fill="none" stroke="{INK}" stroke-width="1.6"{dash} '
            'marker-end="url(#head)"/>'
        )

    def line(self, *points: Point, radius: float = 8) -> None:
        """A line without a head, where two flows meet or something ends."""
        self._parts.append(
            f'<path d="{rounded(points, radius)}" fill="none" stroke="{INK}" stroke-width="1.4"/>'
        )

    def dot(self, place: Point, name: str = "") -> None:
        """A point of a plane: small and filled, or larger with a short name in it."""
        x, y = place
        radius, fill = (12, FILL["new"]) if name else (4.5, INK)
        self._parts.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{radius}" fill="{fill}" stroke="{INK}"/>'
        )
        if name:
            self._text((x, y + 4.5), name, 13, "middle", weight=600)

    def note(self, text: str, place: Point, mono: bool = False, anchor: str = "middle") -> None:
        """Words with their middle at a place, or their edge (``anchor`` "start" or "end").

        Shapes, such as ``(B, N, D)``, are written ``mono``.
        """
        self._text(place, text, 12.5, anchor, mono, INK if mono else QUIET)

    def legend(self, place: Point, tokens: bool = False) -> None:
        """What the marks mean, of those that were used; ``tokens`` for the kinds of token, too."""
        x, y = place
        entries = [("a part, trained", "plain"), ("new in this paper", "new")]
        entries += [("frozen", "frozen"), ("data", "data")]
        for words, kind in entries:
            if kind not in self._kinds:
                continue
            box = Box(x, y - 12, 26, 16)
            edge = NEW_EDGE if kind == "new" else INK
            dash = ' stroke-dasharray="4 3"' if kind == "frozen" else ""
            line = "" if kind == "data" else f'stroke="{edge}" stroke-width="1.6"{dash}'
            self._rect(box, f'rx="4" fill="{FILL.get(kind, FILL["plain"])}" {line}')
            self._text((x + 34, y), words, 12.5, "start")
            x += 34 + 12.5 * 0.54 * len(words) + 20
        for kind in TOKEN if tokens else ():
            self._token((x, y - 13), kind, 17)
            self._text((x + 24, y), f"{kind} token", 12.5, "start")
            x += 24 + 12.5 * 0.54 * len(f"{kind} token") + 20

    def svg(self) -> str:
        """The picture as the text of an SVG file."""
        head = (
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker>'
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                f'width="{self.width}" height="{self.height}" role="img" '
                f'aria-labelledby="title desc" font-family="{SANS}">',
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="desc">{escape(self.description)}</desc>',
                f"<defs>{head}</defs>",
                f'<rect width="{self.width}" height="{self.height}" rx="8" fill="{PAPER}"/>',
                f'<text x="20" y="32" font-size="18" font-weight="700" fill="{INK}">'
                f"{escape(self.title)}</text>",
                *self._parts,
                "</svg>\n",
            ]
        )

    def save(self, path: str | Path) -> None:
        """Write the SVG file."""
        Path(path).write_text(self.svg(), encoding="utf-8")

    def _inside(self, box: Box, name: str) -> Box:
        if min(box.x, box.y) < 0 or box.right()[0] > self.width or box.bottom()[1] > self.height:
            raise ValueError(f"{name!r} at {box} leaves the drawing of {self.width}x{self.height}")
        return box

    def _rect(self, box: Box, look: str) -> None:
        self._parts.append(
            f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
            f"{look}/>"
        )

    def _words(self, box: Box, name: str, lines: Sequence[str], mono: bool) -> None:
        all_words = [(name, 14, mono), *((line, 12.5, False) for line in lines)]
        for words, size, is_mono in all_words:
            if len(words) * size * LETTER[is_mono] > box.width - 8:
                raise ValueError(f"{words!r} does not fit a box {box.width} wide")
        top = box.y + box.height / 2 - LINE * len(lines) / 2 + 5
        middle = box.x + box.width / 2
        self._text((middle, top), name, 14, "middle", mono, weight=600)
        for index, line in enumerate(lines, start=1):
            self._text((middle, top + LINE * index), line, 12.5, "middle", fill=QUIET)

    def _text(
        self,
        place: Point,
        text: str,
        size: float,
        anchor: str = "start",
        mono: bool = False,
        fill: str = INK,
        weight: int = 400,
    ) -> None:
        font = f' font-family="{MONO}"' if mono else ""
        self._parts.append(
            f'<text x="{place[0]:g}" y="{place[1]:g}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}" fill="{fill}"{font}>{escape(text)}</text>'
        )

    def _token(self, place: Point, kind: str, side: int) -> None:
        fill, mark = TOKEN[kind]
        self._rect(Box(*place, side, side), f'fill="{fill}" stroke="{INK}" stroke-width="1"')
        if mark:
            middle = place[0] + side / 2, place[1] + side / 2 + 4.5
            self._text(middle, mark, 13, "middle", weight=600)

    def _lock(self, x: float, y: float) -> None:
        self._parts.append(
            f'<path d="M{x + 2.5:g} {y + 5:g} v-2 a3 3 0 0 1 6 0 v2" fill="none" stroke="{INK}" '
            f'stroke-width="1.4"/><rect x="{x:g}" y="{y + 5:g}" width="11" height="8" rx="1.5" '
            f'fill="{INK}"/>'
        )


def _length(a: Point, b: Point) -> float:
    return ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5


def rounded(points: Sequence[Point], radius: float = 8) -> str:
    """A path through points whose corners are rounded."""
    path = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        into = _towards(corner, before, min(radius, _length(corner, before) / 2))
        out = _towards(corner, after, min(radius, _length(corner, after) / 2))
        path.append(f"L{into[0]:g} {into[1]:g} Q{corner[0]:g} {corner[1]:g} {out[0]:g} {out[1]:g}")
    path.append(f"L{points[-1][0]:g} {points[-1][1]:g}")
    return " ".join(path)


def _towards(start: Point, end: Point, distance: float) -> Point:
    part = distance / max(_length(start, end), 1e-9)
    return start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])
