"""Make the built site smaller where no reader sees a difference.

- Pictures become lossless WebP: the same pixels in about two thirds of the bytes.
- Source maps are left out: only the debuggers of the theme's authors read them.
- A notebook that is downloaded from a page keeps its text and tables. Its pictures stand on the
  page, in the repository's file, and come back when it is run.
"""

import json
import re
from pathlib import Path

from PIL import Image

PICTURE = re.compile(r"(_images/[^\"'\s<>]+)\.png(?=[\"'\s?#])")
LONG = 20_000  # characters of an output: animations are more, tables are less


def lighten(folder: Path) -> None:
    """Make a site smaller, in place; a second time changes nothing."""
    for path in folder.glob("_static/**/*.map"):
        path.unlink()
    for path in folder.glob("_sources/**/*.ipynb"):
        notebook = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps(without_pictures(notebook), ensure_ascii=False), "utf-8")
    smaller = {path.stem for path in folder.glob("_images/*.png") if as_webp(path)}
    if smaller:
        for path in folder.rglob("*.html"):
            html = path.read_text("utf-8")
            if (mended := with_webp(html, smaller)) != html:
                path.write_text(mended, "utf-8")


def as_webp(path: Path) -> bool:
    """Put a picture's lossless WebP in its place, if that is smaller."""
    smaller = path.with_suffix(".webp")
    with Image.open(path) as image:
        if image.mode.startswith("I") or getattr(image, "is_animated", False):
            return False  # 16 bits a channel, or several frames
        image.save(smaller, lossless=True, exact=True)
    kept, dropped = (
        (smaller, path) if smaller.stat().st_size < path.stat().st_size else (path, smaller)
    )
    dropped.unlink()
    return kept is smaller


def with_webp(html: str, names: set[str]) -> str:
    """A page that shows the pictures of these names as WebP."""

    def change(found: re.Match) -> str:
        stem = found[1].rpartition("/")[2]
        return f"{found[1]}.webp" if stem in names else found[0]

    return PICTURE.sub(change, html)


def without_pictures(notebook: dict) -> dict:
    """A notebook whose outputs are text and tables only."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if data := output.get("data"):
                output["data"] = {kind: data[kind] for kind in data if _is_short(kind, data[kind])}
    return notebook


def _is_short(kind: str, value: object) -> bool:
    return not kind.startswith("image/") and len(json.dumps(value)) <= LONG


def lighten_site(app, error):
    """After all other extensions."""
    if error is None and app.builder.name == "html":
        lighten(Path(app.outdir))


def setup(app):
    app.connect("build-finished", lighten_site, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
