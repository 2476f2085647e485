"""The book for e-readers: it builds without a warning, and every page of it is well formed."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile

import pytest

from gentok.book import __main__ as without_make
from gentok.book import pairs

ROOT = pairs.find_root()
pytestmark = [pytest.mark.book, pytest.mark.slow]


def test_the_epub_is_whole(tmp_path):
    line = [sys.executable, *without_make.COMMANDS["epub"], "--path-output", tmp_path]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    book = zipfile.ZipFile(tmp_path / "_build" / "epub" / "generative-tokenizers.epub")
    assert book.testzip() is None
    assert book.namelist()[0] == "mimetype" and book.read("mimetype") == b"application/epub+zip"
    names = [name for name in book.namelist() if name.endswith((".xhtml", ".opf", ".ncx"))]
    for path in pairs.sources(ROOT):
        assert any(name.endswith(f"{path.stem}.xhtml") for name in names), path.stem
    broken = {}
    for name in names:
        try:
            ElementTree.fromstring(book.read(name))
        except ElementTree.ParseError as error:
            broken[name] = str(error)
    assert broken == {}
