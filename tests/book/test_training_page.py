"""The page on training: its loop is the library's, and its examples run."""

import re
from pathlib import Path

import pytest

from gentok.book.records import checkout
from gentok.training import profiles

PAGE = checkout() / "book" / "training.md"
SOURCE = checkout() / "lib" / "gentok" / "training" / "loop.py"


def test_the_printed_loop_is_the_whole_loop_and_short():
    source, page = SOURCE.read_text(encoding="utf-8"), PAGE.read_text(encoding="utf-8")
    options = dict(re.findall(r"^:(start-after|end-before): \"(.*)\"$", page, re.MULTILINE))
    path = re.search(r"\{literalinclude\} (\S+)", page)[1]
    assert (PAGE.parent / path).resolve() == SOURCE
    assert source.count(options["start-after"]) == source.count(options["end-before"]) == 1
    loop = source.split(options["start-after"])[1].split(options["end-before"])[0]
    lines = [line for line in loop.splitlines() if line.strip()]
    assert len(lines) <= 40
    assert all(line.startswith(" " * 8) for line in lines)
    assert "for step in range(start, steps):" in lines[0] and "optimizer.step()" in loop
    outside = source.replace(loop, "")
    assert "optimizer.step()" not in outside and ".backward(" not in outside


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    assert len(blocks) >= 3 and capsys.readouterr().out == "True\n"
    assert Path("runs/denoiser.safetensors").is_file()


@pytest.mark.parametrize("name", profiles.SEEDS)
def test_the_table_of_profiles_is_the_librarys(name):
    row = re.search(rf"^\| `{name}` \|.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)[0]
    seeds = row.split("|")[3].strip().replace("0 to 5", "0, 1, 2, 3, 4, 5")
    assert seeds == ", ".join(map(str, profiles.SEEDS[name]))
