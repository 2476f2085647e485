"""What makes the built site smaller: the same pixels, the same words, fewer bytes."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from gentok.book import pairs

sys.path.insert(0, str(pairs.find_root() / "book" / "_ext"))
from lighter import lighten, with_webp, without_pictures  # noqa: E402

PAGE = (
    '<img src="../_images/a.png"><a href="../_images/tiny.png">b</a> a.png '
    '<img src="../_static/a.png">'
)


def notebook():
    """A code cell with a picture, a table and an animation, and one that is text."""
    outputs = [
        {"output_type": "display_data", "data": {"image/png": "iVBO", "text/plain": "<Figure>"}},
        {"output_type": "execute_result", "data": {"text/html": ["<table>", "</table>"]}},
        {"output_type": "execute_result", "data": {"text/html": "x" * 30_000}, "metadata": {}},
        {"output_type": "stream", "name": "stdout", "text": "y" * 30_000},
    ]
    return {"cells": [{"cell_type": "code", "outputs": outputs}, {"cell_type": "markdown"}]}


@pytest.fixture
def site(tmp_path):
    """A page, two pictures, a source map and a notebook to download, as Sphinx leaves them."""
    for name in ("_images", "_static/scripts", "_sources/notebooks", "notebooks"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "notebooks" / "a.html").write_text(PAGE)
    (tmp_path / "_static" / "scripts" / "theme.js.map").write_text("{}")
    (tmp_path / "_sources" / "notebooks" / "a.ipynb").write_text(json.dumps(notebook()))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
    pixels[..., 1] = pixels[..., 0]  # something to save
    Image.fromarray(pixels).save(tmp_path / "_images" / "a.png")
    deep = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(deep).save(tmp_path / "_images" / "tiny.png")  # 16 bits: no WebP holds them
    return tmp_path


def test_a_site_gets_smaller_and_shows_the_same(site):
    with Image.open(site / "_images" / "a.png") as image:
        before = np.array(image)
    lighten(site)
    assert sorted(p.name for p in (site / "_images").iterdir()) == ["a.webp", "tiny.png"]
    with Image.open(site / "_images" / "a.webp") as image:
        assert np.array_equal(np.array(image), before), "a pixel is not what it was"
    page = (site / "notebooks" / "a.html").read_text()
    assert page == PAGE.replace("_images/a.png", "_images/a.webp")
    assert not list(site.rglob("*.map"))
    files = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    lighten(site)
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == files


def test_names_are_replaced_whole():
    html = '<img src="_images/a.png"><img src="_images/ba.png"><img src="_images/a.png.svg">'
    assert with_webp(html, {"a"}) == html.replace('a.png">', 'a.webp">', 1)


def test_a_downloaded_notebook_keeps_its_words():
    first, table, animation, words = without_pictures(notebook())["cells"][0]["outputs"]
    assert first["data"] == {"text/plain": "<Figure>"}
    assert table["data"] == {"text/html": ["<table>", "</table>"]}
    assert animation["data"] == {} and len(words["text"]) == 30_000
