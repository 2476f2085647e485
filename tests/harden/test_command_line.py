"""Random command lines: exit codes as documented, one line for an error, never a traceback.

`HARDEN_LINES` says how many.
"""

import os
import random

import pytest
from harden.toy_system import one_line, take_the_place_of

from gentok.book import registry

pytestmark = pytest.mark.harden
LINES = range(int(os.environ.get("HARDEN_LINES", "250")))
COMMANDS = ["list", "info", "train", "sample", "evaluate", "claims", "doctor"]
OPTIONS = {
    "list": ["--json"],
    "info": ["--preset", "--json"],
    "train": ["--preset", "--profile", "--stage", "--out", "--resume", "--seed", "--log"],
    "sample": ["--from", "--out", "-n", "--seed"],
    "evaluate": ["--from", "-n", "--data", "--json"],
    "claims": ["--json"],
    "doctor": ["--json"],
}
FLAGS = {"--json", "--resume", "--debug", "--version", "--help"}
GOOD = {
    "--preset": ["tiny", "large"],
    "--profile": ["smoke"],
    "--seed": ["0", "7"],
    "-n": ["1", "3"],
    "--log": ["csv"],
    "--out": ["a.safetensors", "new/a.safetensors", "lr0.1"],
    "--from": ["there.safetensors"],
    "--data": ["."],
    "--stage": ["tokenizer"],
}
BAD = [
    "", " ", "-", "--", "-1", "0", "1e9", "nan", "inf", "10" * 30, "2.5", "true", "None", "tinny",
    "a" * 300, "é" * 40, "\N{PILE OF POO}", "a\nb", "\x1b[31mred", "\udcff", "a\x00b", "/", ".",
    "..", "/dev/null", "/dev/full", "/proc/nowhere/a", "folder", "folder/", "readonly/a", "'",
    "[bold]",
    "$(true)", "*", "~", "smoke", "enat", "fa_vae", "FA_VAE", "vat", "--json", "-n", "@", "\\",
]  # fmt: skip


def a_line(rng):
    """A command with options and values, some of them good."""
    command = rng.choice([*COMMANDS, *COMMANDS, rng.choice(BAD)])
    words = [command]
    if command not in ("list", "claims", "doctor") or rng.random() < 0.1:
        slugs = [system.slug for system in registry.systems()]
        words.append(rng.choice([rng.choice(slugs), rng.choice(slugs), rng.choice(BAD)]))
    options = OPTIONS.get(command, sorted({o for some in OPTIONS.values() for o in some}))
    for option in rng.sample(options, rng.randint(0, len(options))):
        words.append(option)
        if option not in FLAGS:
            good = rng.random() < 0.6
            words.append(rng.choice(GOOD[option] if good else BAD))
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        word = rng.choice([*BAD, "--debugg", "--help", "--version"])
        words.insert(rng.randint(0, len(words)), word)
    if command == "train" and "--profile" not in words:
        words += ["--profile", "smoke"]
    return words


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder, and the toy for every system."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    monkeypatch.setenv("GENTOK_RESULTS", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "readonly").mkdir(mode=0o500)
    (tmp_path / "there.safetensors").write_bytes(b"of another kind")
    take_the_place_of(monkeypatch, {s.slug for s in registry.systems() if s.module})
    return tmp_path


@pytest.mark.parametrize("seed", LINES)
def test_a_random_line_ends_as_documented(place, capfd, seed):
    words = a_line(random.Random(seed))
    before = sorted(path.name for path in place.iterdir())
    code, _, _ = one_line(capfd, words)
    if code == 2:
        left = {path.name for path in place.iterdir()} - set(before)
        assert not {name for name in left if name.endswith((".lock", ".tmp"))}, words
    assert (place / "there.safetensors").read_bytes() == b"of another kind"
