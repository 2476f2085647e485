"""A deck a chapter, from the cells tagged ``slide``: one HTML file that needs nothing else.

A tagged cell with a figure shows the figure; one without shows its code and what it printed; a
tagged text cell shows its text. The title of a slide is the nearest heading above its cell. Arrow
keys turn the pages, a print gives a slide a sheet, and no address outside the file is used.
"""

import importlib.util
import re
from html import escape
from pathlib import Path

from gentok.book.pairs import tags_of

RECORD = "application/papermill.record/text/plain"
ROLE = re.compile(r"\{([\w:-]+)\}`([^`<]*?)\s*(?:<[^>]*>)?`")
HEADING = re.compile(r"^#{1,4} +(.+)$", re.M)
FENCE = re.compile(r"^(?::{3,}|`{3,}\{).*$|^:\w+:.*$|^\(\S+\)=$", re.M)

STYLE = """
:root { --paper: #fbfaf6; --ink: #222; --quiet: #55585c; --code: #eef0f0; color-scheme: light dark }
@media (prefers-color-scheme: dark) {
  :root { --paper: #17191c; --ink: #e8e6e1; --quiet: #b5b8bc; --code: #24282c }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 24px/1.45 system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif }
section { display: none; min-height: 100vh; padding: 5vh 6vw 8vh; flex-direction: column;
  justify-content: center }
section.now { display: flex }
h1 { font-size: 1.9em } h2 { font-size: 1.35em; margin: 0 0 .6em }
img, svg { max-width: 100%; max-height: 72vh; align-self: center; border-radius: 6px }
pre { background: var(--code); padding: .7em 1em; border-radius: 6px; overflow-x: auto;
  font: 17px/1.4 ui-monospace, 'DejaVu Sans Mono', Consolas, monospace; white-space: pre-wrap }
table { border-collapse: collapse; font-size: .8em } td, th { padding: .3em .8em;
  border-bottom: 1px solid var(--quiet); text-align: left; vertical-align: top }
.k, .kn, .ow { font-weight: 700 } .c1, .sd { color: var(--quiet); font-style: italic }
footer { position: fixed; right: 2vw; bottom: 1.5vh; color: var(--quiet); font-size: 16px }
@media print { section { display: flex; break-after: page } footer { display: none } }
"""

SCRIPT = """
const pages = [...document.querySelectorAll("section")];
let now = 0;
function show(index) {
  now = Math.min(Math.max(index, 0), pages.length - 1);
  pages.forEach((page, i) => page.classList.toggle("now", i === now));
  document.querySelector("footer").textContent = `${now + 1} / ${pages.length}`;
  history.replaceState(null, "", `#${now + 1}`);
}
const steps = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1,
  PageUp: -1, Home: -Infinity, End: Infinity };
addEventListener("keydown", (event) => {
  if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  show(now + steps[event.key]);
});
addEventListener("hashchange", () => show(parseInt(location.hash.slice(1) || "1", 10) - 1));
show(parseInt(location.hash.slice(1) || "1", 10) - 1);
"""


def deck(notebook, slug: str) -> str | None:
    """The deck of an executed notebook as the text of an HTML file; None if no cell is tagged.

    Raises:
        ValueError: if a tagged code cell has no stored output.
    """
    glued, slides, heading, title = _glued(notebook), [], "", slug
    for cell in notebook.cells:
        tagged = "slide" in tags_of(cell)
        found = HEADING.findall(cell.source) if cell.cell_type == "markdown" else []
        if found and title == slug:
            title = found[0]
        if tagged:
            is_text = cell.cell_type == "markdown"
            body = to_html(HEADING.sub("", cell.source), glued) if is_text else _code(cell)
            above = found[0] if found else heading
            slides.append(f"<section><h2>{inline(above, glued)}</h2>{body}</section>")
        heading = found[-1] if found else heading
    if not slides:
        return None
    return document(inline(title, glued), slug, slides)


def document(name: str, note: str, slides: list[str]) -> str:
    """A deck as the text of an HTML file.

    Args:
        name: the title, HTML; ``note``: what stands under it.
        slides: sections of HTML.
    """
    first = f"<section><h1>{name}</h1><p>{escape(note)} · Generative Tokenizers</p></section>"
    body = "\n".join([first, *slides])
    mathjax = _mathjax() if 'class="math' in body else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{re.sub('<[^>]*>', '', name)}</title><style>{STYLE}</style></head>\n<body>\n"
        f"{body}\n<footer></footer>\n<script>{SCRIPT}</script>\n"
        f"{mathjax}</body></html>\n"
    )


def _code(cell) -> str:
    """A figure, or the code with what it printed."""
    parts = [part for output in cell.outputs if (part := _output(output, cell))]
    if not cell.outputs:
        raise ValueError(f"a cell tagged slide has no stored output:\n{cell.source}")
    pictures = [part for part in parts if part.startswith(("<img", "<svg"))]
    if pictures:
        return "".join(pictures)
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    plain = HtmlFormatter(nowrap=True)
    return f"<pre>{highlight(cell.source, PythonLexer(), plain)}</pre>{''.join(parts)}"


def _output(output, cell) -> str:
    data = output.get("data", {})
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    if "image/svg+xml" in data:
        return data["image/svg+xml"][data["image/svg+xml"].index("<svg") :]
    if "image/png" in data:
        png = data["image/png"].replace("\n", "")
        return f'<img alt="{escape(alt)}" src="data:image/png;base64,{png}">'
    if "text/html" in data:
        return f"<div>{data['text/html']}</div>"
    if "text/markdown" in data:
        return to_html(data["text/markdown"], {})
    text = output.get("text", data.get("text/plain", ""))
    return f"<pre>{escape(text)}</pre>" if text.strip() else ""


def _glued(notebook) -> dict[str, str]:
    """Values that the notebook glued, by name, as its text shows them."""
    found = {}
    for output in (o for cell in notebook.cells for o in cell.get("outputs", [])):
        name = output.get("metadata", {}).get("scrapbook", {}).get("name")
        if name and RECORD in output.get("data", {}):
            found[name] = output["data"][RECORD].strip("'")
    return found


def to_html(source: str, glued: dict[str, str]) -> str:
    """Markdown to HTML; roles become their words, fences of directives go."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    def formula(content: str, options: dict) -> str:
        ends = ("\\[", "\\]") if options["display_mode"] else ("\\(", "\\)")
        return f"{ends[0]}{escape(content)}{ends[1]}"

    def words(role: re.Match) -> str:
        return glued.get(role[2], role[2]) if role[1] == "glue:text" else role[2].lstrip("/")

    markdown = MarkdownIt("commonmark").enable("table")
    markdown.use(dollarmath_plugin, renderer=formula)
    return markdown.render(ROLE.sub(words, FENCE.sub("", source)))


def inline(source: str, glued: dict[str, str]) -> str:
    return to_html(source, glued).removeprefix("<p>").strip().removesuffix("</p>")


def _mathjax() -> str:
    """MathJax inside the page, with the glyphs in it; only decks with formulas carry it."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    path = Path(spec.origin).parent / "static" / "mathjax" / "tex-svg-full.js"
    script = path.read_text(encoding="utf-8").replace("</script", r"<\/script")
    return f"<script>{script}</script>"
