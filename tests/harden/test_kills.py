"""Killed at any moment, a run goes on to the same result, and leaves nothing over.

`HARDEN_KILLS` says how many kills are spread over the systems (200).
"""

import os
import random
import shutil
import time

import pytest
from harden.victims import SYSTEMS, start
from toy_training import same_run

pytestmark = pytest.mark.harden
KILLS = int(os.environ.get("HARDEN_KILLS", "200"))
PATIENCE = 1800  # seconds; a run of the smoke profile takes a few


def finish(slug, folder):
    """Train to the end; returns how long it took."""
    began = time.monotonic()
    process = start(slug, folder)
    process.join(PATIENCE)
    assert process.exitcode == 0, (folder.parent / "log").read_text()[-2000:]
    return time.monotonic() - began


@pytest.fixture(scope="module", params=SYSTEMS)
def whole(request, tmp_path_factory):
    """A system, the folder of a run that nothing disturbed, and how long it takes."""
    folder = tmp_path_factory.mktemp(request.param) / "whole"
    folder.mkdir()
    finish(request.param, folder)  # reads what is read once: files, fonts
    shutil.rmtree(folder)
    folder.mkdir()
    return request.param, folder, finish(request.param, folder)


@pytest.mark.parametrize("seed", range(-(-KILLS // len(SYSTEMS))))
def test_resumes_exactly(whole, tmp_path, seed):
    slug, reference, seconds = whole
    folder = tmp_path / "killed"
    folder.mkdir()
    process = start(slug, folder)
    process.join(random.Random(f"{slug} {seed}").uniform(0, seconds))
    process.kill()  # SIGKILL; a run that is done before its time is resumed as a whole one
    process.join()
    finish(slug, folder)
    names = sorted(path.relative_to(reference) for path in reference.rglob("*"))
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == names
    for name in names:
        if name.suffix == ".safetensors":
            same_run(reference / name, folder / name)
