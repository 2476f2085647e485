"""The suite notices broken mechanisms: each mutation makes the test that guards it fail."""

import compileall
import os
import shutil
from contextlib import contextmanager

import forked
import pytest
from mutations import MUTATIONS, run_tests

from gentok.book import pairs

ROOT = pairs.find_root()
pytestmark = [pytest.mark.mutation, pytest.mark.slow]
TESTS = sorted({mutation.test for mutation in MUTATIONS})
ANOTHER_TIME = (1_000_000_000,) * 2  # in 2001: no file of the library is so old

# Each run gets a fresh process, forked from one that has the slow imports behind it.
PROCESSES = forked.context("scipy.stats", "hypothesis", "accelerate", "transformers.modeling_utils")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A copy of lib/, compiled once, that the tests can be made to import instead."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    copy = tmp_path_factory.mktemp("copy") / "lib"
    shutil.copytree(ROOT / "lib", copy, ignore=ignore)
    compileall.compile_dir(copy, quiet=1)
    return copy


@contextmanager
def changed(path, old, new):
    """A file with a mistake in it, for a while."""
    text, found = path.read_text(encoding="utf-8"), path.stat()
    assert text.count(old) == 1, f"{path.name} has not exactly one {old!r}"
    try:
        path.write_text(text.replace(old, new), encoding="utf-8")
        os.utime(path, ANOTHER_TIME)  # by it, Python sees that what was compiled is out of date
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


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
    with changed(library / "gentok" / mutation.file, mutation.old, mutation.new):
        status, output = outcome(library, [mutation.test])
    assert status == 1 and " failed" in output, f"not noticed:\n{output[-2000:]}"
