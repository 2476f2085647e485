"""The directive `playground`: tokenizers that run in the page, on the reader's own picture.

    ```{playground}
    ```

With `:sound:` it is the codec's. Scripts stand in book/_static/playground; what they load
(weights and examples, as scripts) is written when a site is built.
"""

import os
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from gentok.book import playground

FOLDER = Path("_static") / "playground"
SCRIPTS = ("tensors", "layers", "wavelet", "tokenizers", "sound", "grid", "page")
ELSEWHERE = "The playground is part of the site: it runs in a browser, and this is a book."


class Playground(SphinxDirective):
    """The form, the pictures and the grid; in an EPUB a sentence."""

    option_spec = {"sound": directives.flag}

    def run(self):
        template = Path(__file__).with_name(
            "playground_sound.html" if "sound" in self.options else "playground.html"
        )
        for file in (__file__, template):
            self.env.note_dependency(str(file))
        if self.env.app.builder.name != "html":
            return [nodes.paragraph(text=ELSEWHERE)]
        up = os.path.relpath(FOLDER, Path(self.env.docname).parent)
        html = template.read_text("utf-8").replace("{scripts}", Path(up).as_posix())
        self.env.metadata[self.env.docname]["playground"] = "yes"
        return [nodes.raw("", html, format="html")]


def add_scripts(app, page, template, context, doctree):
    """Only the page with the playground loads its scripts and its style."""
    if app.builder.name == "html" and "playground" in app.env.metadata.get(page, {}):
        for name in SCRIPTS:
            app.add_js_file(f"playground/{name}.js")
        app.add_css_file("playground/playground.css")


def write_data(app, error):
    if error is None and app.builder.name == "html":
        playground.write(Path(app.outdir) / FOLDER)


def setup(app):
    app.add_directive("playground", Playground)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", write_data)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
