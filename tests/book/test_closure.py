"""What counts as a change of code: gentok.book.closure on a small package made for the purpose."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from gentok.book import closure, modules, records, slices
from gentok.book.closure import Closure
from gentok.book.modules import Definition, Package
from gentok.book.syntax import Writer

FILES = {
    "__init__.py": "",
    "low/__init__.py": "from toy.low.losses import loss\nfrom .blocks import Net as N\n",
    "low/losses.py": """
import torch.nn.functional as F
from toy.base import SCALE, check

def loss(x, y):
    if len(x) != len(y):
        lengths = f"{len(x)} and {len(y)}"
        raise ValueError(f"x and y must be alike, got {lengths}")
    check(x)
    return SCALE * F.mse_loss(x, y)

def unused():
    return 3
""",
    "low/blocks.py": """
from toy.base import Base

class Net(Base):
    width: int = 4

    def forward(self, x):
        return self.grow(x)
""",
    "base.py": """
SCALE = 2.0
OTHER = 5

class Base:
    def grow(self, x):
        return x + OTHER

def check(x):
    assert x is not None, "x is missing"

def failure(what):
    return ValueError("no " + what)
""",
    "weights.py": """
READS = {"judge": "files/judge_{0}.bin"}

def judge(name):
    if name == "none":
        raise failure(name)
    return open(name)

from toy.base import failure
""",
    "files/judge_world.bin": "111",
    "files/judge_photos.bin": "222",
    "table.py": """
TABLE = {}

def register(f):
    TABLE[f.__name__] = f
    return f

TABLE["base"] = 1
register(len)

def look(name):
    return TABLE[name]
""",
    "dynamic.py": """
from toy import base

def ask(name):
    return getattr(base, name)
""",
    "show/plot.py": "def draw(x):\n    return x\n",
    "uses.py": """
from toy import low
from toy.show import plot
from toy.weights import judge

def world(photos):
    plot.draw(photos)
    return judge("photos" if photos else "world")

def one():
    return judge("world")

def some(name):
    return judge(name)

def late():
    from toy.base import SCALE
    return SCALE

def shadow(SCALE):
    check = SCALE
    return [low for low in check]
""",
}


@pytest.fixture
def toy(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "toy"


def closure_of(toy, name):
    module, _, function = name.rpartition(".")
    without = ("show",)
    return Closure(Package(toy), without).reach(Definition(f"toy.{module}", function))


def names(toy, name):
    return [each.removeprefix("toy.") for each in closure_of(toy, name).names()]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("low.losses.loss", ["base.SCALE", "base.check", "low.losses.loss"]),
        ("low.blocks.Net", ["base.Base", "base.OTHER", "low.blocks.Net"]),  # bases, too
        ("uses.late", ["base.SCALE", "uses.late"]),  # an import inside a function
        ("uses.shadow", ["uses.shadow"]),  # names of its own
        ("table.look", ["table.(statements)", "table.TABLE", "table.look", "table.register"]),
        ("uses.one", ["uses.one", "weights.judge"]),  # what only makes an exception does not count
        (
            "dynamic.ask",  # a module that is asked by name counts whole
            [
                "base.Base", "base.OTHER", "base.SCALE", "base.check", "base.failure",
                "dynamic.ask",
            ],
        ),
    ],
)  # fmt: skip
def test_reach(toy, start, expected):
    assert names(toy, start) == expected


LOSSES = FILES["low/losses.py"]
IMPORT = "import torch.nn.functional as F"


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("low/losses.py", "SCALE * F", "3 * SCALE * F", True),
        ("low/losses.py", "mse_loss", "l1_loss", True),
        ("base.py", "SCALE = 2.0", "SCALE = 2.5", True),
        ("low/losses.py", "must be alike", "must have equal lengths", False),
        ("low/losses.py", " and {len(y)}", " against {len(y)}", False),  # only for the message
        ("base.py", '"x is missing"', '"nothing came"', False),
        ("base.py", "x is not None", "x is None", True),
        ("low/losses.py", "def loss(x, y):", "def loss(x: list, y: list) -> float:", False),
        ("low/losses.py", "(x, y):", '(x, y):\n    """Doc."""\n    # why', False),
        ("low/losses.py", "(x, y):", "(x, y=None):", True),
        ("low/losses.py", "return 3", "return 4", False),
        ("low/losses.py", "def unused", "def another():\n    return 1\n\ndef unused", False),
        ("low/losses.py", IMPORT, "from torch.nn import functional as F", False),
        ("low/losses.py", IMPORT, "import torch.other as F", True),
        ("base.py", "OTHER = 5", "OTHER = 6", False),  # the loss reaches no Base
        ("low/losses.py", "SCALE, check", "OTHER as SCALE, check", True),
    ],
)  # fmt: skip
def test_hash_follows_what_is_computed(toy, file, old, new, changes):
    before = closure_of(toy, "low.losses.loss").digest()
    path = toy / file
    text = path.read_text().replace(old, new)
    assert text != path.read_text()
    path.write_text(text)
    assert (closure_of(toy, "low.losses.loss").digest() != before) is changes


def test_a_definition_may_move(toy):
    before = closure_of(toy, "low.losses.loss").digest()
    (toy / "scales.py").write_text("SCALE = 2.0\n")
    (toy / "base.py").write_text(FILES["base.py"].replace("SCALE = 2.0\n", ""))
    source = LOSSES.replace("from toy.base import SCALE, check", "from toy import base, scales")
    source = source.replace("SCALE *", "scales.SCALE *").replace(
        "    check(x)", "    base.check(x)"
    )
    (toy / "objective.py").write_text(source)
    assert closure_of(toy, "objective.loss").digest() == before


def test_a_name_that_comes_to_mean_something_else_counts(toy):
    before = closure_of(toy, "low.losses.loss").digest()
    (toy / "scales.py").write_text("SCALE = 2.5\n")
    source = LOSSES.replace("import SCALE, check", "import check\nfrom toy.scales import SCALE")
    (toy / "low/losses.py").write_text(source)
    assert closure_of(toy, "low.losses.loss").digest() != before


def test_drawing_does_not_count(toy):
    before = closure_of(toy, "uses.world").digest()
    (toy / "show/plot.py").write_text("def draw(x):\n    return 2 * x\n")
    assert closure_of(toy, "uses.world").digest() == before


@pytest.mark.parametrize(
    ("start", "world", "photos"),
    [("one", True, False), ("world", True, True), ("some", True, True)],
)
def test_weights_count_by_their_bytes_where_they_are_read(toy, start, world, photos):
    for name, matters in (("world", world), ("photos", photos)):
        before = closure_of(toy, f"uses.{start}").digest()
        path = toy / f"files/judge_{name}.bin"
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
        assert (closure_of(toy, f"uses.{start}").digest() != before) is matters


def test_a_flipped_byte_in_the_judges_weights_makes_a_record_stale(tmp_path):
    """On a copy of the judge of the drawn world, which ENAT's record reads."""
    root = records.checkout()
    cells = slices.code_cells(root / "notebooks" / "tokens" / "enat.py")
    found = slices.experiment_closure(cells, "blocks")
    assert [path.name for path in found.files] == ["classifier_world.safetensors"]
    before = found.digest()
    (weights,) = found.files
    copy = tmp_path / weights.name
    content = bytearray(weights.read_bytes())
    copy.write_bytes(content)
    found.files = {copy}
    assert found.digest() == before
    content[-1] ^= 1
    copy.write_bytes(content)
    assert found.digest() != before


def test_every_file_of_the_package_is_declared_by_what_reads_it():
    folder = modules.PACKAGE
    data = {p for p in folder.rglob("*") if p.suffix in {".safetensors", ".npz", ".json", ".txt"}}
    declared = set()
    for path in folder.rglob("*.py"):
        name = ".".join(["gentok", *path.relative_to(folder).with_suffix("").parts])
        module = modules.package().find(name.removesuffix(".__init__"))
        for pattern in module.reads.values():
            declared.update(closure._matching(path.parent, pattern.replace("{0}", "*")))
    assert data - declared == {
        folder / "book" / name for name in ("prerequisites.json", "systems.json")
    }


def written(source):
    return Writer(lambda parts, imports: None).write(ast.parse(source).body)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("x = 1", "x  =  1  # one", True),
        ("x: int = 1", "x = 1", True),
        ("class A:\n    x: int", "class A:\n    x: float", True),
        ("class A:\n    x: int", "class A:\n    x: ClassVar[int]", False),
        ("class A:\n    x: int", "class A:\n    y: int", False),
        ("class A(B): pass", "class A(C): pass", False),
        ("def f(a, *, b=1): pass", "def f(a, b=1): pass", False),
        ("raise ValueError('a')", "raise ValueError('b')", True),
        ("raise ValueError('a')", "raise TypeError('a')", False),
        ("def f(): 'doc'\n", "def f(): 'other'\n", True),
        ("def f():\n  m = g()\n  raise E(m)", "def f():\n  m = h()\n  raise E(m)", True),
        ("def f():\n  m = g()\n  raise E(m + m)", "def f():\n  m = h()\n  raise E(m)", True),
        ("def f():\n  m = g()\n  assert m, m", "def f():\n  m = h()\n  assert m, m", False),
        ("'shown'", "'also shown'", False),  # at the top it is a value, not a docstring
        ("f(lambda a: a)", "f(lambda a: -a)", False),
        ("@g\ndef f(): return 1", "def f(): return 1", False),
        ("{**a}", "{**b}", False),
    ],
)  # fmt: skip
def test_what_is_written_alike(a, b, same):
    assert (written(a) == written(b)) is same


def test_text_does_not_depend_on_the_python_version():
    # Some versions give an f-string's format an empty text more; written out, it must not count.
    tree = ast.parse('f"{x:>{w}}"')
    spec = tree.body[0].value.values[0].format_spec
    plain = Writer(lambda *_: None).write(tree.body)
    spec.values = [*(v for v in spec.values if getattr(v, "value", 0) != ""), ast.Constant("")]
    assert Writer(lambda *_: None).write(tree.body) == plain
    assert "type_params" not in written("def f(): pass")


def test_hashes_of_the_book_are_those_of_other_pythons():
    """With each other Python on this machine; the tool needs nothing but the standard library."""
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from gentok.book import slices\n"
        "cells = slices.code_cells(Path(sys.argv[2]))\n"
        "names = slices.experiment_names(cells)\n"
        "print([slices.experiment_closure(cells, name).digest() for name in names])"
    )
    notebook = records.checkout() / "notebooks" / "tokens" / "enat.py"
    arguments = ["-c", program, str(modules.PACKAGE.parent), str(notebook)]
    mine = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    others = sorted(Path.home().glob(".pyenv/versions/3.1[1-4]*/bin/python"))
    if not others:
        pytest.skip("no other Python of 3.11 to 3.14 here")
    for python in others:
        done = subprocess.run([python, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout == mine.stdout, python
