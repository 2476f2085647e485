"""Primers: two minutes each, one equation, one figure by code, one block of code that runs."""

import contextlib
import io
import re

import pytest

from gentok.book.pairs import find_root

ROOT = find_root()
PRIMERS = sorted((ROOT / "book" / "primers").glob("*.md"))
every_primer = pytest.mark.parametrize("path", PRIMERS, ids=lambda path: path.stem)
BLOCK = re.compile(r"^```(.*?)\n(.*?)^```$", re.M | re.S)
FORMULA = re.compile(r"^\$\$\n.*?^\$\$", re.M | re.S)


@every_primer
def test_it_takes_two_minutes(path):
    prose = FORMULA.sub("", BLOCK.sub("", path.read_text("utf-8")))
    assert 400 <= len(prose.split()) <= 600


@every_primer
def test_it_has_one_formula_one_figure_and_one_block_of_code(path):
    text = path.read_text("utf-8")
    assert len(FORMULA.findall(text)) == 1
    kinds = [kind.split()[0] for kind, _ in BLOCK.findall(text)]
    assert sorted(kinds) == ["python", "text", "{figure}"]
    picture = re.search(r"\{figure\} \.\./img/(\w+)\.svg", text)[1]
    assert (ROOT / "book" / "drawings" / f"{picture}.py").is_file(), "drawn by code"


@every_primer
def test_its_code_prints_what_stands_below(path):
    (code,) = (body for kind, body in BLOCK.findall(path.read_text("utf-8")) if kind == "python")
    (shown,) = (body for kind, body in BLOCK.findall(path.read_text("utf-8")) if kind == "text")
    assert max(map(len, code.split("\n"))) <= 80
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, path.name, "exec"), {"__name__": "primer"})
    assert printed.getvalue() == shown


@every_primer
def test_it_leads_to_chapters(path):
    links = re.findall(r"\{doc\}`/notebooks/(\w+/\w+)`", path.read_text("utf-8"))
    assert links and all((ROOT / "notebooks" / f"{link}.ipynb").is_file() for link in links)
