"""Small tables of a page whose cells wrap: they read alike at 390 pixels and on a wide screen."""

from collections.abc import Sequence
from html import escape

HEAD = 'style="text-align:left;vertical-align:bottom"'
CELL = 'style="text-align:left;vertical-align:top;white-space:normal;overflow-wrap:anywhere"'


class Table:
    """Rows of text under named columns; notebooks show it as HTML, a terminal as text.

    Args:
        columns: the head of each column; empty strings draw no head.
        rows: a sequence of cells each; a cell is text, or anything that `str` makes text.
        title: a line above.
        kinds: CSS class of each row's first cell, such as ``"verdict-reproduced"``.

    Raises:
        ValueError: if a row has another number of cells than there are columns.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        title: str = "",
        kinds: Sequence[str] | None = None,
    ):
        self.columns = tuple(columns)
        self.rows = [tuple(str(cell) for cell in row) for row in rows]
        self.title = title
        self.kinds = [""] * len(self.rows) if kinds is None else list(kinds)
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(self.columns)} columns need as many cells, got {row}")

    def __repr__(self) -> str:
        shown = [self.columns, *self.rows] if any(self.columns) else self.rows
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in shown
        ]
        return "\n".join(([self.title] if self.title else []) + lines)

    def _repr_html_(self) -> str:
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        head = "".join(f'<th scope="col" {HEAD}>{escape(name)}</th>' for name in self.columns)
        head = f"<thead><tr>{head}</tr></thead>" if any(self.columns) else ""
        body = "".join(map(self._row, self.rows, self.kinds))
        return f'<table class="gentok-rows">{caption}{head}<tbody>{body}</tbody></table>'

    @staticmethod
    def _row(cells: Sequence[str], kind: str) -> str:
        first, *rest = (escape(cell).replace("\n", "<br>") for cell in cells)
        named = f' class="{kind}"' if kind else ""
        cells = "".join(f"<td {CELL}>{cell}</td>" for cell in rest)
        return f'<tr><th scope="row"{named} {CELL}>{first}</th>{cells}</tr>'
