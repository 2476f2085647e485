"""The site as one document: every page in order, addresses that lead somewhere, a real PDF."""

import re
import shutil

import pytest

from gentok.book import pdf

HEAD = """<!doctype html><html><head><link rel="stylesheet" href="../_static/a.css">
<script src="../_static/mathjax/tex.js"></script><script src="../_static/other.js"></script></head>
<body><nav>left out</nav><article>"""
ONE = (
    HEAD
    + """<h1 id="top">One</h1><a href="two.html#part">to two</a><a href="#top">up</a>
<a href="https://example.org/">away</a><a href="other.html">no page</a>
<img src="../_images/x.png"><details><summary>more</summary>inside</details></article></body>"""
)
TWO = (
    HEAD + """<h1 id="top">Two</h1><p id="part"><a href="one.html">back</a></p></article></body>"""
)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "book").mkdir()
    for name, text in (("one", ONE), ("two", TWO)):
        (tmp_path / "book" / f"{name}.html").write_text(text + "</html>", "utf-8")
    return tmp_path


def test_pages_in_order_with_addresses_of_the_whole(site):
    text = pdf.document(site, ["book/one", "book/two"])
    assert text.index("One") < text.index("Two") and "left out" not in text
    anchors = re.findall(r' id="([^"]+)"', text)
    assert len(set(anchors)) == len(anchors) == 5
    inside = re.findall(r'href="#([^"]+)"', text)
    assert len(inside) == 3 and set(inside) <= set(anchors)
    assert 'href="https://example.org/"' in text and 'href="book/other.html"' in text
    assert 'src="_images/x.png"' in text and 'href="_static/a.css"' in text
    assert 'src="_static/mathjax/tex.js"' in text and "other.js" not in text
    assert '<details open="">' in text


def test_a_missing_page_or_browser_is_named(site, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError, match="three.html: build the site first"):
        pdf.document(site, ["book/three"])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="chromium"):
        pdf.write(site, ["book/one"], site / "out.pdf")


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, pdf.BROWSERS)), reason="no chromium is installed")
def test_a_page_a_sheet(site):
    path = pdf.write(site, ["book/one", "book/two"], site / "out" / "book.pdf")
    data = path.read_bytes()
    assert data.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) == 2
    assert sorted(p.name for p in site.iterdir() if p.is_file()) == []


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, pdf.BROWSERS)), reason="no chromium is installed")
def test_shadows_are_not_printed(site):
    """Chromium would make a picture of each; in the whole book they were 1,400."""
    page = site / "book" / "two.html"
    page.write_text(TWO.replace('id="part"', 'id="part" class="a"'), "utf-8")
    (site / "_static").mkdir()
    shadow = "html p.a { box-shadow: 0 0 9px #000 !important }"  # as the theme insists on its own
    (site / "_static" / "a.css").write_text(shadow)
    data = pdf.write(site, ["book/two"], site / "out" / "book.pdf").read_bytes()
    assert not re.search(rb"/Subtype\s*/Image", data)
