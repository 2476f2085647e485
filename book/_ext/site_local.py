"""Make the site open from the file system with no network.

Sphinx loads MathJax from a server unless told otherwise; here it is one file copied from the
`sphinx-mathjax-offline` package (SVG output: the glyphs are inside, so no web fonts either). The
theme emits some scripts twice, which is an error on every page, and Thebe, which needs a server.
"""

import importlib.util
import shutil
from pathlib import Path

MATHJAX = "tex-svg-full.js"


def use_local_mathjax(app, config):
    config.mathjax_path = f"mathjax/{MATHJAX}"


def copy_mathjax(app, error):
    if error is None and app.builder.format == "html":
        # The package's name has hyphens: it can be found, but not imported.
        package = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
        target = Path(app.outdir) / "_static" / "mathjax"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / "static" / "mathjax" / MATHJAX, target / MATHJAX)


def drop_repeated_scripts(app, page, template, context, doctree):
    kept, seen = [], set()
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        key = (str(getattr(script, "filename", script)), attributes.get("body"))
        if key not in seen and "thebe" not in str(key).lower():
            seen.add(key)
            kept.append(script)
    context["script_files"] = kept


def setup(app):
    app.connect("config-inited", use_local_mathjax)
    app.connect("html-page-context", drop_repeated_scripts, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
