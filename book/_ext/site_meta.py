"""What search engines, previews and lost visitors need: descriptions, a sitemap, a page 404.

A page is described by its first sentences. Addresses come from ``html_baseurl``; nothing is loaded
from there, so that the site still opens from disk without a network.
"""

import re
from html import escape, unescape
from pathlib import Path
from xml.sax.saxutils import escape as escape_xml

from docutils import nodes

LONGEST = 200  # characters that previews show
BOXES = (nodes.Admonition, nodes.admonition, nodes.table, nodes.figure, nodes.list_item)

NOT_FOUND = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="robots" content="noindex">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Page not found · {title}</title>
<style>:root {{ color-scheme: light dark }} body {{ max-width: 36em; margin: 20vh auto;
padding: 0 1em; font: 18px/1.5 system-ui, sans-serif }}</style></head>
<body><main><h1>There is no such page</h1>
<p>It may have moved. The <a href="{base}book/index.html">front page of {title}</a> lists all
chapters, and the <a href="{base}search.html">search</a> finds words.</p></main></body></html>
"""


def description(doctree) -> str:
    """The first words of a page that are neither in a box nor in a list."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree is not None else ():
        above = paragraph.parent
        while above is not None and not isinstance(above, BOXES):
            above = above.parent
        text = " ".join(paragraph.astext().split())
        if above is None and len(text) > 40:
            return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(' ')[0]} …"
    return ""


def add_meta(app, page, template, context, doctree):
    """Describe the page, for search engines and for previews."""
    words = description(doctree) if app.builder.name == "html" else ""
    if not words:
        return
    facts = {
        "og:title": _plain(context.get("title", "")),
        "og:type": "article",
        "og:description": words,
    }
    facts |= {"og:site_name": app.config.html_title or app.config.project}
    facts |= {"og:url": f"{app.config.html_baseurl}{page}.html"}
    tags = [f'<meta name="description" content="{escape(words)}">']
    tags += [f'<meta property="{k}" content="{escape(v)}">' for k, v in facts.items()]
    context["metatags"] = context.get("metatags", "") + "\n".join(["", *tags, ""])


def _plain(title: str) -> str:
    """A title without markup, which Sphinx has rendered already."""
    return unescape(re.sub("<[^>]*>", "", title))


def write_files(app, error):
    """The sitemap, and the page that servers show for an unknown address."""
    if error is not None or app.builder.name != "html":
        return
    base, folder = app.config.html_baseurl, Path(app.outdir)
    pages = sorted(app.env.found_docs)
    places = [f"<url><loc>{escape_xml(f'{base}{page}.html')}</loc></url>" for page in pages]
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    head += '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    (folder / "sitemap.xml").write_text(head + "\n".join(places) + "\n</urlset>\n", "utf-8")
    title = escape(app.config.html_title or app.config.project)
    (folder / "404.html").write_text(NOT_FOUND.format(base=base, title=title), "utf-8")


def setup(app):
    app.connect("html-page-context", add_meta)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
