"""The wheel alone, far from a checkout: commands, weights, and a chapter's first cell."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from gentok.book import __main__ as without_make
from gentok.book import pairs

ROOT = pairs.find_root()
NEEDED = ("lib", "book/results", "notebooks", "weights")
FILES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md")
LARGEST = 100_000_000  # bytes that PyPI takes
SHORTEST = ("mogo", "matformer", "point_mae")  # chapters
CLEAN = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and "GENTOK" not in k}


def run(line, **options):
    done = subprocess.run(line, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy, since a build leaves files in the tree that it builds from."""
    copy = tmp_path_factory.mktemp("copy")
    for name in NEEDED:
        junk = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.ipynb")
        shutil.copytree(ROOT / name, copy / name, ignore=junk)
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    line = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    run([*line, "-w", copy / "dist", "."], cwd=copy)
    return next((copy / "dist").glob("gentok-*.whl"))


@pytest.fixture
def elsewhere(tmp_path):
    """An interpreter that sees the packages of this one, but not gentok, and an empty folder."""
    run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"])
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = tmp_path / "venv" / scripts / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = Path(run([python, "-c", ask], env=CLEAN).strip())
    (folder / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "work").mkdir()
    return python, tmp_path / "work"


def first_cell():
    notebook = pairs.read_source(pairs.source_of("cvt", ROOT))
    return next(cell.source for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.slow
def test_the_wheel_holds_what_chapters_need_and_fits(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    kept = [path.relative_to(ROOT).as_posix() for path in (ROOT / "weights").rglob("*.safetensors")]
    for end in (
        *kept,
        "share/gentok/enat.json",
        "share/gentok/enat.claims.toml",
        "gentok/py.typed",
    ):
        assert any(name.endswith(end) for name in names), end
    assert wheel.stat().st_size < LARGEST
    metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
    assert "License-Expression: Apache-2.0 AND CC-BY-4.0" in zipfile.ZipFile(wheel).read(
        metadata
    ).decode("utf-8")


@pytest.mark.slow
def test_the_first_cell_installs_what_is_missing_and_the_rest_is_found(wheel, elsewhere):
    python, folder = elsewhere
    env = CLEAN | {"GENTOK_WHEEL": str(wheel), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    program = "import os\n" + first_cell() + "\nimport gentok; print(gentok.__file__)"
    found = run([python, "-c", program], cwd=folder, env=env).strip().splitlines()[-1]
    assert Path(found).is_relative_to(python.parents[1]), "the wheel, not the checkout"
    again = CLEAN | {"GENTOK_WHEEL": "no such file"}  # nothing is missing, so nothing is fetched
    run([python, "-c", program], cwd=folder, env=again)

    claims = run([python, "-m", "gentok.cli", "claims", "--json"], cwd=folder, env=CLEAN)
    assert "enat" in json.dumps(json.loads(claims))
    use = "import gentok; print(type(gentok.pretrained('cvt')).__name__)"
    assert run([python, "-c", use], cwd=folder, env=CLEAN).strip()
    opened = "from gentok.book import chapter; print(chapter.open('enat', 'cpu').slug)"
    said = run([python, "-c", opened], cwd=folder, env=CLEAN)
    assert said.strip() == "enat", "something that the chapter reads was not found"


@pytest.mark.slow
@pytest.mark.parametrize("slug", SHORTEST)
def test_a_chapter_runs_alone(wheel, elsewhere, slug):
    """Its file and the wheel, in an empty folder."""
    python, folder = elsewhere
    notebook = pairs.source_of(slug, ROOT).with_suffix(".ipynb")
    shutil.copy(notebook, folder / notebook.name)
    env = CLEAN | {"GENTOK_WHEEL": str(wheel), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    line = [python, "-m", "papermill", notebook.name, "done.ipynb", "-k", "python3"]
    run([*line, "-p", "profile", "smoke", "--no-progress-bar"], cwd=folder, env=env)
    assert (folder / "done.ipynb").is_file()


def test_commands_without_make_are_named(capsys):
    assert without_make.main(["nope"]) == 2
    assert "accepted: site, epub, pdf, execute" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(set(without_make.COMMANDS) - {"pages", "test-fast"}))
def test_commands_without_make_start(name):
    line = [sys.executable, *without_make.COMMANDS[name], "--help"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "usage" in done.stdout.lower(), done.stderr
