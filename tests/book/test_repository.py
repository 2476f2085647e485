"""The files around the library agree with each other."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from gentok.book import pairs, registry

ROOT = pairs.find_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FOLDERS = ("lib", "tests", "benchmarks", "book", "notebooks")
CODE = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def pins():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): next(iter(r.specifier)) for r in found}


def test_environment_equals_pyproject():
    """Conda users get what pip users get: the same extras under the same pins."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[book,test]"]}
    assert {"book", "test"} <= set(PROJECT["optional-dependencies"])
    python = [item.removeprefix("python=") for item in conda if item.startswith("python")]
    assert [item for item in conda if not item.startswith("python")] == ["pip"]
    assert len(python) == 1 and python[0] in SpecifierSet(PROJECT["requires-python"])


def test_every_requirement_is_pinned_and_allowed():
    pinned = pins()
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for line in (line for group in groups for line in group):
        requirement = Requirement(line)
        pin = pinned.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{line} has no pin in constraints.txt"
        assert pin.operator == "==" and pin.version in requirement.specifier, f"{pin} is not {line}"


def test_the_lock_has_the_pins_and_a_hash_of_each_file():
    """`pip install --require-hashes` takes nothing else; there is more for other systems."""
    locked, hashes, name = {}, {}, ""
    for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines():
        if found := re.fullmatch(r" +--hash=sha256:([0-9a-f]{64})( \\)?", line):
            hashes[name].append(found[1])
        elif not line.startswith("#"):
            requirement = Requirement(line.removesuffix("\\"))
            name = canonicalize_name(requirement.name)
            locked[name], hashes[name] = str(requirement.specifier), []
    wanted = {name: str(pin) for name, pin in pins().items()}
    assert {name: pin for name, pin in locked.items() if name in wanted} == wanted
    assert all(pin.startswith("==") for pin in locked.values())
    assert all(hashes.values()) and all(len(set(h)) == len(h) for h in hashes.values())


def test_bench_needs_nothing_that_test_does_not_install():
    extras = PROJECT["optional-dependencies"]
    known = {Requirement(line).name for line in PROJECT["dependencies"] + extras["test"]}
    assert {Requirement(line).name for line in extras["bench"]} <= known


def test_torch_pin_takes_the_cpu_build_too():
    assert "+" not in pins()["torch"].version


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_version_specific_code(path):
    """The same code on Python 3.11 to 3.14: the oldest grammar, no branches on the version."""
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 11))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and path != Path(__file__):
            assert node.attr not in {"version_info", "hexversion", "python_version_tuple"}


def test_every_page_is_in_the_table_of_contents():
    """A page outside the contents is built by nobody and found by nobody."""
    toc = set(re.findall(r"(?:file|root): (\S+)", (ROOT / "book" / "_toc.yml").read_text("utf-8")))
    pages = [*(ROOT / "book").rglob("*.md"), *(ROOT / "notebooks").rglob("*.ipynb")]
    pages = [page for page in pages if ".ipynb_checkpoints" not in page.parts]
    assert {page.relative_to(ROOT).with_suffix("").as_posix() for page in pages} == toc


def test_every_cited_system_has_its_entry():
    entries = (ROOT / "book" / "references.bib").read_text("utf-8")
    missing = [s.key for s in registry.systems() if f"{{{s.key}," not in entries]
    assert missing == []


def test_make_lists_its_targets():
    run = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"^  make (\S+)", run.stdout, re.M))
    assert {"book", "test", "test-fast", "execute", "study", "lab", "student", "clean"} <= listed


def test_ci_runs_the_test_command_and_nothing_else():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "make test"
    assert script.count("make ") == 1 and (ROOT / ".ci" / "run").stat().st_mode & 0o100


def test_no_interpreter_found_is_one_clear_line(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "environment.yml"):
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"))
    line = ["make", "book", "CANDIDATES=no-such-python"]
    run = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert "error: no Python 3.11 to 3.14" in run.stderr
    assert not (tmp_path / ".venv").exists()


def test_floors_hold():
    """The import contracts of pyproject.toml, here too so that every run of the tests sees them."""
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
