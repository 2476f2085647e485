"""A table as docutils nodes, shared by the directives of this folder."""

from docutils import nodes


def table(headers: list[str], rows: list[list], classes: list[str] = ()) -> nodes.table:
    """Build a table.

    Args:
        headers: text of the header cells.
        rows: cells of each row: text, or a list of inline nodes.
        classes: CSS classes of the table.
    """
    group = nodes.tgroup(cols=len(headers))
    group += [nodes.colspec(colwidth=1) for _ in headers]
    head, body = nodes.thead(), nodes.tbody()
    head += _row(headers)
    body += [_row(cells) for cells in rows]
    group += [head, body]
    return nodes.table("", group, classes=["gentok-table", *classes])


def _row(cells: list) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        inline = [nodes.Text(cell)] if isinstance(cell, str) else cell
        row += nodes.entry("", nodes.paragraph("", "", *inline))
    return row
