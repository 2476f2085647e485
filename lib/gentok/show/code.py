"""The library's source inside a page: highlighted, at most 80 columns, in light and in dark.

The library is written 100 columns wide, a page of the book shows 80. A longer line is broken
inside its brackets and a long comment is wrapped, so what is shown is still the same program.
"""

import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from types import FunctionType

from pygments import highlight as to_html
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

WIDTH = 80  # columns
BEFORE = {"and", "or", "if", "else", "for", "+", "-", "*", "/", "@"}  # broken before, in brackets
# Where the page brings no colours of its own (a notebook outside the book): enough to read by.
STYLE = """<style>
.gentok-code .k,.gentok-code .kn,.gentok-code .ow{font-weight:bold}
.gentok-code .c1,.gentok-code .sd{font-style:italic}
.gentok-code .hll{display:block;background:rgba(222,143,5,.22);border-left:4px solid #de8f05}
</style>"""
BARE = re.compile(
    r"(\s*(?:return|[\w., ]+ =)) ([^=(].*[^:,])"
)  # a statement with no brackets outside
Source = FunctionType | type


class Code:
    """Source that notebooks show as highlighted HTML and a terminal as plain text."""

    def __init__(self, name: str, text: str, lines: Sequence[int]):
        self.name, self.text, self.lines = name, text, list(lines)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        formatter = HtmlFormatter(cssclass="highlight", hl_lines=self.lines, wrapcode=True)
        body = to_html(self.text, PythonLexer(), formatter)
        # `highlight` is the class that the book's theme colours, in its light and its dark form.
        return (
            f'{STYLE}<div class="gentok-code"><p><code>{escape(self.name)}</code></p>'
            f'<div class="highlight-python notranslate">{body}</div></div>'
        )


def show_code(
    obj: Source,
    highlight: str | Sequence[str] = (),
    start: str | None = None,
    end: str | None = None,
) -> Code:
    """Show how the library does it.

    Args:
        obj: a function, a method or a class.
        highlight: words; every line that contains one of them is marked.
        start: begin at the first line that contains these words; ``end``: stop after the first
            such line from there on.

    Returns:
        what the last line of a cell shows. Of a docstring the first paragraph is kept.

    Raises:
        ValueError: if words occur in no line: the library has changed, or they are misspelt.
    """
    lines = fold(_short_docstrings(textwrap.dedent(inspect.getsource(obj)))).split("\n")
    first = _find(lines, start, 0) if start else 0
    last = _find(lines, end, first) if end else len(lines) - 1
    shown = textwrap.dedent("\n".join(lines[first : last + 1])).strip("\n").split("\n")
    words = [highlight] if isinstance(highlight, str) else highlight
    marked = set()
    for word in words:
        _find(shown, word, 0)
        marked |= {i + 1 for i, line in enumerate(shown) if word in line}
    name = f"{obj.__module__}.{obj.__qualname__}"
    return Code(name, "\n".join(shown), sorted(marked))


def _find(lines: Sequence[str], words: str, first: int) -> int:
    for index in range(first, len(lines)):
        if words in lines[index]:
            return index
    raise ValueError(f"no line of the source contains {words!r}; it begins {lines[first]!r}")


def _short_docstrings(source: str) -> str:
    """Keep the first paragraph of every docstring."""
    lines = source.split("\n")
    for token in reversed(_docstrings(_tokens(source))):
        kept = token.string.rstrip("\"'").split("\n\n")[0].rstrip() + token.string[-3:]
        indent = " " * token.start[1]
        lines[token.start[0] - 1 : token.end[0]] = (indent + kept).split("\n")
    return "\n".join(lines)


def fold(source: str, width: int = WIDTH) -> str:
    """Break lines that are longer than ``width`` where Python allows it.

    A comment behind code moves onto a line before it; comments and docstrings are wrapped; code is
    broken after a comma or before an operator inside brackets, and gets brackets if it has none. A
    line with no such place stays.
    """
    lines, row = source.split("\n"), 0
    while row < len(lines):
        if len(lines[row]) > width:
            tokens = _tokens("\n".join(lines))
            pieces = _break(lines[row], row + 1, tokens, width)
            if pieces != lines[row : row + 1]:
                lines[row : row + 1] = pieces
                continue  # a piece may still be too long
        row += 1
    return "\n".join(lines)


def _tokens(source: str) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(source).readline))


def _docstrings(tokens: Sequence[tokenize.TokenInfo]) -> list[tokenize.TokenInfo]:
    """Strings in triple quotes that are statements of their own."""
    opens = (tokenize.INDENT, tokenize.NEWLINE, tokenize.NL)
    return [
        token
        for before, token in pairwise(tokens)
        if token.type == tokenize.STRING
        and before.type in opens
        and token.string.endswith(('"""', "'''"))
    ]


def _break(line: str, row: int, tokens: list[tokenize.TokenInfo], width: int) -> list[str]:
    """A line that is too long as several; as it is if Python has no place to break it."""
    indent = line[: len(line) - len(line.lstrip())]
    here = [token for token in tokens if token.start[0] == row]
    if any(t.start[0] <= row <= t.end[0] for t in _docstrings(tokens)):
        return _wrap(line.strip(), indent, width)
    if line.lstrip().startswith("#"):
        if not line.strip("#-= "):
            return [line[:width]]  # a rule
        return _wrap(line.lstrip("# "), indent + "# ", width)
    if comment := next((t for t in here if t.type == tokenize.COMMENT), None):
        return [indent + comment.string, line[: comment.start[1]].rstrip()]
    depth = sum(_opens(token) for token in tokens if token.start[0] < row)
    places = [p for p in _places(here, depth) if len(indent) + 4 < p[1] <= width]
    if not places:
        bare = BARE.fullmatch(line) if depth == sum(map(_opens, here)) == 0 else None
        return [f"{bare[1]} (", f"{indent}    {bare[2]}", f"{indent})"] if bare else [line]
    least = min(level for level, _ in places)  # the outermost bracket is where a reader looks
    place = max(column for level, column in places if level == least)
    more = indent if depth else indent + " " * 4  # a line that goes on is indented already
    return [line[:place].rstrip(), more + line[place:].lstrip()]


def _wrap(words: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(
        words, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False
    )


def _opens(token: tokenize.TokenInfo) -> int:
    """1 for a bracket that opens, -1 for one that closes, else 0."""
    if token.type != tokenize.OP:
        return 0
    return (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))


def _places(tokens: list[tokenize.TokenInfo], depth: int) -> list[tuple[int, int]]:
    """(open brackets, column) of each place where a row may be broken."""
    found, in_text = [], 0  # not inside an f-string, which has tokens of its own
    for token in tokens:
        kind = tokenize.tok_name[token.type]
        in_text += (kind == "FSTRING_START") - (kind == "FSTRING_END")
        depth += _opens(token)
        if depth > 0 and not in_text:
            if token.string in (",", "(", "[", "{") and token.type == tokenize.OP:
                found.append((depth, token.end[1]))
            elif token.string in BEFORE:
                found.append((depth, token.start[1]))
    return found
