"""The suite notices broken mechanisms: each mutation makes the test that guards it fail."""

import multiprocessing
import shutil

import pytest
from mutations import MUTATIONS, run_tests

from gentok.book import pairs

ROOT = pairs.find_root()
pytestmark = [pytest.mark.mutation, pytest.mark.slow]
TESTS = sorted({mutation.test for mutation in MUTATIONS})

# Each run gets a fresh process, forked from one that has the slow imports behind it.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch", "scipy.stats"])


@pytest.fixture
def library(tmp_path):
    """A copy of lib/ that the tests can be made to import instead."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    return shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=ignore)


def outcome(library, tests):
    """Pytest's exit status (0 passed, 1 failed, others: not run) and output, with the copy."""
    log = library.parent / "log"
    process = PROCESSES.Process(target=run_tests, args=(library, tests, log))
    process.start()
    process.join(timeout=300)
    return process.exitcode, log.read_text()


def test_the_copy_is_what_runs(library, tmp_path):
    """Else every mutation would be looked for in the wrong library."""
    probe = tmp_path / "test_probe.py"
    probe.write_text(
        f"import gentok\n\ndef test():\n    assert {str(library)!r} in gentok.__file__"
    )
    status, output = outcome(library, [str(probe)])
    assert status == 0, output


def test_unchanged_library_passes(library):
    status, output = outcome(library, TESTS)
    assert status == 0, output


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name.replace(" ", "-"))
def test_mutation_is_noticed(library, mutation):
    path = library / "gentok" / mutation.file
    text = path.read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1, f"{mutation.file} has not exactly one {mutation.old!r}"
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    status, output = outcome(library, [mutation.test])
    assert status == 1 and " failed" in output, f"not noticed:\n{output[-2000:]}"
