"""What counts as a change of code: gentok.book.closure on a small package made for the purpose."""

import ast

import pytest

from gentok.book import closure

FILES = {
    "__init__.py": "",
    "low/__init__.py": '"""A facade."""\nfrom toy.low.a import f\nfrom .b import g as h\n',
    "low/a.py": "from toy.base import x\n\n\ndef f():\n    return x\n",
    "low/b.py": "def g():\n    return 2\n",
    "base.py": 'x = 1\nTABLE = "tables"\n',
    "tables/one.bin": "111",
    "tables/deep/two.bin": "222",
    "other/three.bin": "333",
    "lonely.py": "y = 3\n",
    "busy/__init__.py": "from toy import lonely\nregistry = {}\n",
    "busy/part.py": "z = 1\n",
    "late.py": "def use():\n    from . import base\n    return base.x\n",
}


@pytest.fixture
def toy(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "toy"


def names(toy, source, without=(), start=""):
    found = closure.reach([ast.parse(source)], set(without), toy, start)
    return [module.name.removeprefix("toy.") for module in found]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from toy.low import f", ["base", "low.a"]),  # looks through the facade
        ("from toy.low import h", ["low.b"]),  # a renamed, relative re-export
        ("from toy import low", ["base", "low", "low.a", "low.b"]),  # the facade as a whole
        ("import toy.low.b as b", ["low.b"]),
        ("from toy.low import nothing", ["base", "low", "low.a", "low.b"]),
        ("from toy.busy.part import z", ["busy", "busy.part", "lonely"]),  # its package runs code
        ("from toy.late import use", ["base", "late"]),  # imports inside functions count
        ("if 1:\n    import toy.base", ["base"]),
        ("import numpy, toylike.base", []),
    ],
)
def test_reach(toy, source, expected):
    assert names(toy, source) == expected


def test_reach_leaves_out_and_does_not_look_into(toy):
    assert names(toy, "import toy.low.a", without=["toy.low.a"]) == []


def test_relative_import_of_a_module(toy):
    assert names(toy, "from .low.b import g", start="toy.late") == ["low.b"]


def test_data_files_are_those_that_the_module_names(toy):
    found = closure.data_files(closure.find_module("toy.base", toy))
    assert [path.name for path in found] == ["two.bin", "one.bin"]
    assert closure.data_files(closure.find_module("toy.lonely", toy)) == []


def digest(toy, source="from toy.low import f"):
    modules = closure.reach([ast.parse(source)], set(), toy)
    return closure.digest([closure.dump_cell(source)], modules, toy)


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("low/a.py", "from toy.base import x\n\n\ndef f():\n    return -x\n", True),
        (
            "low/a.py",
            FILES["low/a.py"].replace("return", '"""Doc."""\n    # why\n    return'),
            False,
        ),
        ("low/a.py", '"""Module."""\n\n' + FILES["low/a.py"] + "\n\n", False),
        ("base.py", FILES["base.py"].replace("1", "2"), True),
        ("tables/deep/two.bin", "223", True),
        ("other/three.bin", "334", False),
        ("low/b.py", "def g():\n    return 4\n", False),  # not reached through f
        ("lonely.py", "y = 4\n", False),
        ("low/__init__.py", FILES["low/__init__.py"] + "from toy.lonely import y\n", False),
    ],
)
def test_digest_follows_code_and_nothing_else(toy, file, text, changes):
    before = digest(toy)
    (toy / file).write_text(text)
    assert (digest(toy) != before) is changes


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("x = 1", "x  =  1  # one", True),
        ("plot(x)", "plot(x);", False),  # the semicolon hides the value
        ("plot(x);", "plot(x) ;  # quiet", True),
        ("'shown'", "'also shown'", False),  # a cell's first string is a value, not a docstring
        ("x = 'é'; y", "x = 'é'; y;", False),  # columns are counted in bytes
        ("%matplotlib inline\nx = 1", "%matplotlib widget\nx = 1", False),
        ("%matplotlib inline\nx = 1", "%matplotlib inline\nx = 1  # one", True),
        ("%%bash\nls", "%%bash\nls -l", False),
        ("def f(): 'doc'\n", "def f(): 'other'\n", True),
        ("", "# only a comment", True),
    ],
)
def test_dump_cell(a, b, same):
    assert (closure.dump_cell(a) == closure.dump_cell(b)) is same


def test_magics_do_not_hide_imports(toy):
    tree = closure.parse_cell("%matplotlib inline\nfrom toy.base import x\nif x:\n    !ls")
    assert [m.name for m in closure.reach([tree], set(), toy)] == ["toy.base"]
    assert closure.parse_cell("%%bash\nls") is None


def test_dump_does_not_depend_on_the_python_version():
    # Some versions give an f-string's format an empty text more; written out, it must not count.
    tree = ast.parse('f"{x:>{w}}"')
    spec = tree.body[0].value.values[0].format_spec
    plain = closure._dump(tree)
    spec.values = [*(v for v in spec.values if getattr(v, "value", 0) != ""), ast.Constant("")]
    assert closure._dump(tree) == plain
    assert "type_params" not in closure._dump(ast.parse("def f(): pass"))
