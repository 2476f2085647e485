"""Source on a page: the same program, 80 columns, the right lines marked."""

import ast
import importlib
import inspect
import pkgutil

import pytest

import gentok.tokens.enat as enat
from gentok.show.code import WIDTH, fold, show_code
from gentok.show.table import Table


def functions():
    """Functions and classes of a part, and of what it stands on."""
    for package in ("gentok.tokens", "gentok.nn"):
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, package + "."):
            module = importlib.import_module(info.name)
            for _, obj in inspect.getmembers(module, lambda o: inspect.isfunction(o) or
                                             inspect.isclass(o)):  # fmt: skip
                if obj.__module__ == info.name and not hasattr(obj, "__wrapped__"):
                    yield obj


def program(source):
    """The syntax tree without docstrings, which are wrapped on the page."""
    tree = ast.parse(inspect.cleandoc(source) if source.startswith(" ") else source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return ast.dump(tree)


def test_what_is_shown_is_the_same_program_and_fits():
    count = 0
    for obj in functions():
        code, count = show_code(obj), count + 1
        assert program(code.text) == program(inspect.getsource(obj)), obj
        long = [line for line in code.text.split("\n") if len(line) > WIDTH]
        long = [line for line in long if not line.lstrip().startswith(('"', 'f"'))]  # a message
        assert long == [], obj
    assert count > 60


@pytest.mark.parametrize(
    ("line", "folded"),
    [
        ("x = f(aaaa, bbbb, cccc)  # why", "# why\nx = f(aaaa, bbbb,\n    cccc)"),
        ("# one two three four five", "# one two three four\n# five"),
        ("import aaaaaaaaaaaaaaaaaa", "import aaaaaaaaaaaaaaaaaa"),
        ("return aaaaa + bbbbbb + ccccc", "return (\n    aaaaa + bbbbbb\n    + ccccc\n)"),
        ("x = f(g(aa, bb), h(cc, dd))", "x = f(g(aa, bb),\n    h(cc, dd))"),
    ],
)
def test_folding(line, folded):
    assert fold(line, 20) == folded


def test_a_part_is_shown_and_marked():
    code = show_code(enat.ENAT.features, "context=old", start="new = take", end="masked = take")
    lines = code.text.split("\n")
    assert lines[0].startswith("new = take") and lines[-1].startswith("masked = take")
    assert [lines[i - 1].strip() for i in code.lines] == ["new = block(new, c, context=old)"]
    html = code._repr_html_()
    assert html.count('class="hll"') == 1 and 'class="highlight"' in html
    assert "gentok.tokens.enat.model.ENAT.features" in html


def test_only_the_first_paragraph_of_a_docstring_is_shown():
    text = show_code(enat.ENAT.features).text
    assert '"""One step of the network."""' in text and "Args:" not in text


@pytest.mark.parametrize("words", [{"highlight": "nope"}, {"start": "nope"}, {"end": "nope"}])
def test_words_that_are_gone_are_an_error(words):
    with pytest.raises(ValueError, match="nope"):
        show_code(enat.SCAttention.forward, **words)


def test_a_table_wraps_and_escapes():
    table = Table(("a", "b"), [("x<y", 1), ("p\nq", 2)], "T & U", kinds=["good", ""])
    html = table._repr_html_()
    assert "x&lt;y" in html and "T &amp; U" in html and "p<br>q" in html
    assert html.count("white-space:normal") == 4 and 'class="good"' in html
    assert repr(table).split("\n")[1].split() == ["a", "b"]
    with pytest.raises(ValueError, match="as many cells"):
        Table(("a", "b"), [("x",)])
