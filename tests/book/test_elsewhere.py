"""A chapter runs in any folder, by either of the tools that people run notebooks with."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from gentok.book import pairs

ROOT = pairs.find_root()
CHAPTER = ROOT / "notebooks" / "latents" / "ard_vae.ipynb"
PAPERMILL = ("papermill", CHAPTER.name, "done.ipynb", "-k", "python3", "-p", "seed", "3")
NBCONVERT = (
    *("nbconvert", "--to", "notebook", "--execute", "--output", "done.ipynb"),
    *("--ExecutePreprocessor.kernel_name=python3", CHAPTER.name),
)


@pytest.mark.slow
@pytest.mark.parametrize("tool", [PAPERMILL, NBCONVERT], ids=lambda tool: tool[0])
def test_a_chapter_runs_in_another_folder(tool, tmp_path):
    shutil.copy(CHAPTER, tmp_path)
    env = os.environ | {"GENTOK_PROFILE": "smoke", "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-m", *tool]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    notebook = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells) and any(cell.outputs for cell in cells)
    known = {CHAPTER.name, "done.ipynb"}
    assert {path.name for path in tmp_path.iterdir()} == known, "a chapter leaves no files"
