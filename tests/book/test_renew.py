"""Renewal by replay, on a toy chapter in a git repository of its own; and the records' history."""

import json
import os
import random
import shutil
import subprocess
import sys
from functools import cache

import pytest

from gentok.book import modules, records
from gentok.book.replay import (
    PREAMBLE,
    different_cells,
    different_columns,
    shown,
    small_profile,
)

ROOT = records.checkout()
CHAPTER = """\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
profile = "cpu"

# %%
import time

import torch

from gentok.book.study import Study
from gentok.nn.toy import loss

study = Study("vat", profile)


# %%
def train(seed, width):
    x = torch.randn(width)
    return {"mse": float(loss(x)), "clock": time.perf_counter()}


runs = study.ablate("losses", train, {"a": {"width": 3}, "b": {"width": 4}})
others = study.ablate("constants", lambda seed: {"one": 1.0}, {"a": {}})

# %%
print(runs["mse"].tolist())
"""
LOSS = "def loss(x):\n    return (x * x).mean()\n"
SAME = (
    'def square(x):\n    """A square."""\n    if x is None:\n        raise ValueError("no x")\n'
    "    return x * x\n\n\ndef loss(x):\n    return square(x).mean()\n"
)
OTHER = LOSS.replace("x * x", "x * x + 1e-7")


def on_one_core():
    """Else a study of four short runs would start processes that import for seconds."""
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})


class Book:
    """A repository with the library and one chapter, its record and its outputs."""

    def __init__(self, root):
        self.root, self.toy = root, root / "lib" / "gentok" / "nn" / "toy.py"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(modules.PACKAGE, root / "lib" / "gentok", ignore=ignored)
        (root / "book" / "results").mkdir(parents=True)
        (root / "book" / "index.md").write_text("a book")
        chapter = root / "notebooks" / "shapes" / "vat.py"
        chapter.parent.mkdir(parents=True)
        chapter.write_text(CHAPTER)
        (root / "notebooks" / "jupytext.toml").write_text("")
        (root / ".gitignore").write_text("_build\n__pycache__\n")
        self.toy.write_text(LOSS)
        self.git("init", "-q")
        self.commit("code")
        self.run("notebook", "study", "vat")
        self.run("notebook", "execute", "vat")
        self.commit("record")

    def git(self, *words):
        names = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *names, *words], cwd=self.root, check=True, capture_output=True)

    def commit(self, message):
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def run(self, module, *words, check=True):
        line = [sys.executable, "-m", f"gentok.book.{module}", *words]
        env = {**os.environ, "PYTHONPATH": str(self.root / "lib")}
        env = {k: v for k, v in env.items() if k not in ("GENTOK_PROFILE", "GENTOK_RESULTS")}
        done = subprocess.run(
            line, cwd=self.root, env=env, capture_output=True, text=True, preexec_fn=on_one_core
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def renewals(self, name):
        record = json.loads((self.root / "book" / "results" / "vat.json").read_text())
        return record["experiments"][name]["renewals"]


@pytest.mark.slow
def test_a_harmless_change_is_renewed_and_another_is_named(tmp_path):
    book = Book(tmp_path)
    assert "nothing is stale" in book.run("renew").stdout

    book.toy.write_text(SAME)
    assert "commit the code first" in book.run("renew", check=False).stderr
    book.commit("refactor")
    assert "vat: losses" in book.run("notebook", "stale", check=False).stdout
    out = book.run("renew", "vat").stdout
    assert "losses: renewed by replay" in out and "outputs: renewed by replay" in out
    assert "differ in ['clock']" in out
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True
    ).stdout.strip()
    (renewal,) = book.renewals("losses")
    assert (renewal["commit"], renewal["by"]) == (head, "replay")
    assert book.renewals("constants") == [], "it reaches no changed code"
    assert "nothing is stale" in book.run("notebook", "stale").stdout
    book.commit("renew")

    book.toy.write_text(OTHER)
    book.commit("another loss")
    before = (tmp_path / "book" / "results" / "vat.json").read_bytes()
    done = book.run("renew", "vat", "--experiment", "losses", check=False)
    assert done.returncode == 1 and "vat, losses: other values of mse" in done.stderr
    assert (tmp_path / "book" / "results" / "vat.json").read_bytes() == before

    # Back to what the last renewal was made with, under a new commit: no run is needed.
    book.toy.write_text("# moved\n" + SAME)
    book.commit("back")
    assert "nothing is stale" in book.run("renew", "vat").stdout


def test_bad_input_is_one_clear_line():
    from gentok.book import renew

    assert renew.main(["nothing"]) == 2


def test_rows_are_compared_bit_for_bit():
    rows = [{"variant": "a", "seed": 0, "mse": 0.1, "curve": [1.0, float("nan")]}]
    assert different_columns(rows, json.loads(json.dumps(rows))) == set()
    near = [rows[0] | {"mse": 0.1 + 2**-55}]
    assert different_columns(rows, near) == {"mse"}
    assert different_columns(rows, [rows[0] | {"curve": [1.0, 2.0]}]) == {"curve"}
    assert different_columns(rows, [rows[0] | {"more": 1}]) == {"more"}
    assert different_columns(rows, []) == {"variant"}
    assert different_cells([[1], [2]], [[1], [3]]) == {1}
    assert different_cells([[1]], [[1], [3]]) == {1}


def test_how_a_stream_is_cut_does_not_count():
    def stream(text, name="stdout"):
        return {"output_type": "stream", "name": name, "text": text}

    result = {"output_type": "execute_result", "data": {"text/plain": "1"}, "execution_count": 3}
    whole = shown([stream("one\ntwo\n"), result])
    assert whole == shown([stream("one\n"), stream("two\n"), result | {"execution_count": 4}])
    assert whole != shown([stream("one\n"), stream("two\n", "stderr"), result])


def test_rows_are_kept_of_any_study(tmp_path, monkeypatch):
    """Also of commits from before the book had its folder, whose `Study` writes nothing down."""
    folder = tmp_path / "gentok"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "study.py").write_text(
        "import pandas as pd\n\nclass Study:\n    def ablate(self, name, train):\n"
        "        return pd.DataFrame([train(0)])\n"
    )
    program = PREAMBLE + "from gentok.study import Study\nStudy().ablate('x', lambda s: {'m': 0.5})"
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "GENTOK_REPLAY": str(tmp_path / "rows")}
    subprocess.run([sys.executable, "-c", program], env=env, check=True)
    assert json.loads((tmp_path / "rows").read_text()) == ["x", [{"m": 0.5}]]


def test_old_commits_are_replayed_in_smoke(tmp_path):
    assert small_profile(ROOT) == "probe"
    assert small_profile(ROOT, tmp_path) == "smoke"


def allowed(before, after):
    """Why one version of an experiment may not follow another; "" if it may."""
    if after["made"] == before["made"]:
        if after["rows"] != before["rows"]:
            return "rows were edited"
        old, new = before["renewals"], after["renewals"]
        if new[: len(old)] != old:
            return "a renewal was edited"
        proofs = {"replay", "same definitions"}
        if any(r["by"] not in proofs or not r["commit"] or not r["code"] for r in new[len(old) :]):
            return "a renewal without proof"
        return ""
    if after["made"]["ended"] == before["made"]["ended"]:
        return "how it was made was edited, and nothing was measured"
    return "a new record with renewals" if after["renewals"] else ""


MADE = {"made": {"ended": "1", "code": "a"}, "rows": [1], "renewals": []}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"renewals": [{"commit": "c", "code": "b", "by": "replay"}]}, ""),
        ({"renewals": [{"commit": "c", "code": "b", "by": "hand"}]}, "without proof"),
        ({"rows": [2]}, "rows were edited"),
        ({"made": {"ended": "1", "code": "b"}}, "nothing was measured"),
        ({"made": {"ended": "2", "code": "b"}, "rows": [2]}, ""),
    ],
)
def test_what_may_follow_a_version_of_a_record(change, reason):
    assert reason in (found := allowed(MADE, MADE | change)) and bool(reason) == bool(found)


def faults(before, name, after):
    """A line for each change from a version to the next that may not be."""
    lines = []
    for experiment in before["experiments"].keys() & after["experiments"].keys():
        why = allowed(before["experiments"][experiment], after["experiments"][experiment])
        if why:
            lines.append(f"{experiment!r}, at {name}: {why}")
    return lines


def changes(path):
    """Each commit that git knows of a record: the versions before it, its name, its own version.

    A merge has several before it, and follows from one of them; last comes the working tree.
    """
    inside = path.relative_to(ROOT).as_posix()

    def git(*words):
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    @cache
    def version(commit):
        text = git("show", f"{commit}:{inside}")
        record = json.loads(text) if text else None
        return None if record is None or "claims" in record else record

    for line in git("log", "--full-history", "--format=%H %P", "--", inside).splitlines():
        commit, *parents = line.split()
        before = [record for parent in parents if (record := version(parent))]
        if before and version(commit):
            yield before, commit[:9], version(commit)
    if now := version("HEAD"):
        yield [now], "the working tree", json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "book" / "results").glob("*.json")), ids=lambda path: path.stem
)
def test_nobody_edited_a_record(path):
    if not (ROOT / ".git").exists():
        pytest.skip("no git history here")
    for before, name, after in changes(path):
        assert [] in (found := [faults(record, name, after) for record in before]), found


@pytest.mark.parametrize(
    "edit",
    [
        lambda experiment: experiment["rows"][0].update(seed=7),
        lambda experiment: experiment["rows"].pop(),
        lambda experiment: experiment["made"].update(code="0" * 16),
        lambda experiment: experiment["renewals"].append({"commit": "c", "code": "d", "by": "me"}),
    ],
)
def test_a_record_of_the_book_that_is_edited_by_hand_is_caught(edit):
    """ENAT's record as it is, then with one thing changed."""
    record = json.loads((ROOT / "book" / "results" / "enat.json").read_text("utf-8"))
    other = json.loads(json.dumps(record))
    assert faults(record, "now", other) == []
    edit(other["experiments"]["blocks"])
    (line,) = faults(record, "now", other)
    assert line.startswith("'blocks', at now: ")
