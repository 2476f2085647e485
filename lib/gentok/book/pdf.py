"""The built site as one PDF file: ``python -m gentok.book.pdf``, after `make site`.

The pages' articles are put one after another into a single page beside the site, which a Chromium
that is installed prints. Formulas, figures and tables are those of the site; links between pages
lead to places of the document.
"""

import argparse
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gentok.book.pairs import find_root

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--no-pdf-header-footer",
    "--virtual-time-budget=600000", "--run-all-compositor-stages-before-draw",
)  # fmt: skip
MINUTES = 30
STYLE = """<style>
@page { size: A4; margin: 16mm }
html, body { background: #fff !important }
body { font-size: 10pt }
article { break-before: page; max-width: none !important }
a.headerlink, .copybtn, button, summary, .pg-form { display: none !important }
pre, figure, tr, .cell_input, div.highlight { break-inside: avoid }
h1, h2, h3, h4, dt.sig { break-after: avoid } pre { white-space: pre-wrap !important }
:not(#over-all) { box-shadow: none !important } /* printed, each becomes a picture */
details > * { display: block } img { max-width: 100% }
</style>"""


def document(site: Path, pages: Sequence[str]) -> str:
    """The articles of the pages as the text of one HTML page that stands in the site's folder.

    Args:
        site: folder of the site.
        pages: names of pages in the book's order, without ``.html``.

    Raises:
        FileNotFoundError: if a page has not been built.
    """
    from bs4 import BeautifulSoup

    articles, head = [], ""
    for name in pages:
        path = site / f"{name}.html"
        if not path.is_file():
            raise FileNotFoundError(f"no {path}: build the site first (make site)")
        soup = BeautifulSoup(path.read_text("utf-8"), "html.parser")
        article = soup.find("article")
        for details in article.find_all("details"):
            details["open"] = ""
        for node in article.find_all(True):
            _move(node, name, pages)
        article["id"] = _anchor(name)
        articles.append(str(article))
        head = head or _head(soup, name)
    return (
        f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>Generative Tokenizers</title>{head}{STYLE}</head>"
        f'<body data-default-mode="light"><main class="bd-content">{"".join(articles)}</main>'
        "</body></html>"
    )


def _anchor(page: str, fragment: str = "") -> str:
    return re.sub(r"[^\w-]", "-", f"{page}--{fragment}" if fragment else page)


def _move(node, page: str, pages: Sequence[str]) -> None:
    """Make addresses and anchors of a page those of the whole document."""
    if node.get("id"):
        node["id"] = _anchor(page, node["id"])
    for key in ("src", "srcset", "data", "href"):
        address = node.get(key)
        if not address or re.match(r"[a-z]+:|//", address):
            continue
        place, _, fragment = address.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), place)) if place else ""
        name = target.removesuffix(".html") if target else page
        if key == "href" and node.name == "a" and name in pages:
            node[key] = f"#{_anchor(name, fragment)}"
        elif place:
            node[key] = target + (f"#{fragment}" if fragment else "")


def _head(soup, page: str) -> str:
    """The style sheets and MathJax of a page; its other scripts are for readers at a screen."""
    kept = [node for node in soup.head.find_all("link") if "stylesheet" in (node.get("rel") or [])]
    scripts = soup.find_all("script")
    kept += [n for n in scripts if "mathjax" in f"{n.get('src', '')}{n.string or ''}".lower()]
    for node in kept:
        _move(node, page, ())
    return "".join(map(str, kept))


def browser() -> str:
    """The command of an installed Chromium.

    Raises:
        FileNotFoundError: if there is none.
    """
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(f"printing needs one of: {', '.join(BROWSERS)}; none is installed")


def write(site: Path, pages: Sequence[str], target: Path) -> Path:
    """Print pages of a site into a PDF file, which is returned.

    Raises:
        FileNotFoundError: if a page or the browser is absent.
        RuntimeError: if the browser printed nothing.
    """
    command, text = browser(), document(site, pages)
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = site / ".whole.html"
    whole.write_text(text, "utf-8")
    # Without a proxy: nothing is loaded from the network, and nothing should wait for it.
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            line = [command, *OPTIONS, f"--user-data-dir={profile}", f"--print-to-pdf={target}"]
            line.append(whole.resolve().as_uri())
            run = subprocess.run(
                line, capture_output=True, text=True, timeout=60 * MINUTES, env=environment
            )
    finally:
        whole.unlink()
    if run.returncode != 0 or not target.is_file():
        raise RuntimeError(f"{command} printed nothing: {run.stderr[-500:]}")
    return target


def contents(root: Path) -> list[str]:
    """The pages of the table of contents, in order."""
    return re.findall(r"(?:file|root): (\S+)", (root / "book" / "_toc.yml").read_text("utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """Entry point; 2 if the site or a browser is absent."""
    parser = argparse.ArgumentParser(prog="python -m gentok.book.pdf", description=__doc__)
    parser.add_argument("pages", nargs="*", help="names such as notebooks/tokens/enat; all if none")
    options = parser.parse_args(arguments)
    try:
        root = find_root()
        target = root / "_build" / "pdf" / "generative-tokenizers.pdf"
        print(f"wrote {write(root / '_build' / 'html', options.pages or contents(root), target)}")
    except (FileNotFoundError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
