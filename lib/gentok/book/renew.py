"""Prove that changed code gives the same numbers: `python -m gentok.book.renew --help`.

A record or a stored output that is stale is either made again, or shown to be what the present code
would give. This command runs the chapter twice in the small `probe` size, with the code that the
rows are known to come from and with the code of HEAD, on this machine, and compares all rows and
outputs bit for bit. Where they are equal it appends a renewal to the experiment, and puts HEAD's
hash into the outputs; where not, it names the experiment and ends with exit code 1.

Numbers that two runs of the *old* code do not share (times) prove nothing and are left out; they
are named. The working tree must hold no uncommitted code, since a renewal names a commit.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from gentok.book import records
from gentok.book.pairs import (
    find_root,
    outputs_hash,
    read_pair,
    source_of,
    sources,
    why_stale,
    write,
)
from gentok.book.replay import (
    Replay,
    different_cells,
    different_columns,
    replay,
    replay_module,
    small_profile,
    tree_of,
)
from gentok.book.staleness import code_of, record_words, stale_experiments


class Chapter:
    """One record, and the outputs of its chapter, that are to be renewed.

    Args:
        slug: the record's and its notebook's; a record may have no notebook and name a function.
        root: the book's folder.
        experiment: renew this one alone, and no outputs; all that is stale if empty.
    """

    def __init__(self, slug: str, root: Path, experiment: str = ""):
        self.root, self.only = root, experiment
        self.path = root / "book" / "results" / f"{Path(slug).stem}.json"
        self.record = records.read_record(self.path) if self.path.is_file() else None
        by_module = self.record is not None and not self._notebooks(root, self.path.stem)
        self.source = None if by_module else source_of(slug, root)
        self.slug = self.path.stem if by_module else self.source.stem
        self.head = _git(root, "rev-parse", "HEAD")
        self.faults: list[str] = []
        self._replays: dict[str, Replay] = {}  # of HEAD, by profile

    @staticmethod
    def _notebooks(root: Path, slug: str) -> list[Path]:
        return [path for path in sources(root) if path.stem == slug]

    def stale(self) -> dict[str, str]:
        """Stale experiments -> the commit that their rows are known to come from."""
        if self.record is None:
            return {}
        names = stale_experiments(self.record, self.root)
        if self.only and self.only not in self.record["experiments"]:
            known = ", ".join(self.record["experiments"])
            raise ValueError(f"EXP: no experiment {self.only!r} is recorded; there are: {known}")
        return {
            name: self._base(self.record["experiments"][name])
            for name in names
            if self.only in ("", name)
        }

    def _base(self, experiment: dict[str, Any]) -> str:
        """The last commit that an experiment's rows are known to come from."""
        commits = [experiment["made"].get("commit"), *(r["commit"] for r in experiment["renewals"])]
        last = commits[-1] or ""
        if last and not last.endswith("+"):
            return last
        # Recorded before its code was committed: the commit that brought the record has the code.
        return self._brought(self.path, experiment["made"]["code"])

    def _brought(self, path: Path, words: str) -> str:
        """The commit that brought some words into a file; "" if none did."""
        inside = path.relative_to(self.root).as_posix()
        return _git(self.root, "log", "-1", "--format=%H", f"-S{words}", "--", inside)

    def renew(self) -> bool:
        """Renew what can be proven.

        Returns:
            whether all that was stale is proven; `faults` says what is not.
        """
        stale = self.stale()
        outputs = "" if self.only else self._stale_outputs()
        for base in dict.fromkeys([*stale.values(), *([outputs] if outputs else [])]):
            names = [name for name, commit in stale.items() if commit == base]
            if not base:
                self.faults += [f"{name}: no commit holds the code of its rows" for name in names]
                continue
            with tree_of(base, self.root) as tree:
                names = self._same_definitions(tree, names)
                shown = outputs == base and self._made_there(tree)
                if names or shown:
                    self._compare(tree, base, names, shown)
        if not stale and not outputs and not self.faults:
            print(f"{self.slug}: nothing is stale")
        return not self.faults

    def _stale_outputs(self) -> str:
        """The commit whose code made the outputs, if they are stale and that can be told."""
        if self.source is None:
            return ""
        if not why_stale(self.source, "cpu") or (pair := read_pair(self.source)) is None:
            return ""
        made = pair.metadata.get("gentok", {})
        brought = self._brought(self.source.with_suffix(".ipynb"), made.get("code", "?"))
        base = made.get("commit") or brought  # a renewal names the commit, a run does not
        if base and made.get("profile") == "cpu":
            return base
        self.faults.append("its outputs: no commit holds the code that made them")
        return ""

    def _made_there(self, tree: Path) -> bool:
        """Whether a commit's code made the outputs, and its record is still the one they show."""
        made = read_pair(self.source).metadata["gentok"]
        if outputs_hash(source_of(self.slug, tree), "cpu") != made["code"]:
            self.faults.append("its outputs: no commit holds the code that made them")
        elif record_words(self.slug, tree) != record_words(self.slug, self.root):
            self.faults.append("its outputs: they show rows or claims that have changed since")
        else:
            return True
        return False

    def _same_definitions(self, tree: Path, names: list[str]) -> list[str]:
        """Renew experiments that reach the very same definitions there and here; the rest."""
        rest = []
        for name in names:
            there = code_of(self.slug, name, self.record["experiments"][name], tree)
            if there and there == self._code(name):
                self._append(name, "same definitions")
            else:
                rest.append(name)
        return rest

    def _code(self, name: str) -> str:
        return code_of(self.slug, name, self.record["experiments"][name], self.root)

    def _replay(self, tree: Path, profile: str) -> Replay:
        if self.source is not None:
            return replay(tree, self.slug, profile, self.only)
        functions = {e["made"]["function"] for e in self.record["experiments"].values()}
        return replay_module(tree, functions.pop().rpartition(".")[0], profile)

    def _present(self, profile: str) -> Replay:
        """What HEAD gives, run once."""
        if profile not in self._replays:
            with tree_of(self.head, self.root) as here:
                self._replays[profile] = self._replay(here, profile)
        return self._replays[profile]

    def _compare(self, tree: Path, base: str, names: list[str], outputs: bool) -> None:
        """Run both, compare rows and outputs, and renew what is equal."""
        profile = small_profile(tree, self.root)
        print(f"{self.slug}: {base[:9]} and {self.head[:9]} in {profile}", flush=True)
        old, new = self._replay(tree, profile), self._present(profile)
        again: Replay | None = None
        for name in names:
            if name not in old.rows or name not in new.rows:
                self.faults.append(f"{name}: it did not run in {profile}")
                continue
            columns = different_columns(old.rows[name], new.rows[name]) - {"seconds"}
            if columns:
                again = again or self._replay(tree, profile)
                noisy = different_columns(old.rows[name], again.rows[name]) - {"seconds"}
                print(f"  {name}: two runs of the old code differ in {sorted(noisy)}")
                columns -= noisy
            if columns:
                self.faults.append(f"{name}: other values of {', '.join(sorted(columns))}")
            else:
                self._append(name, "replay")
        cells = different_cells(old.outputs, new.outputs) if outputs else set()
        if cells:
            again = again or self._replay(tree, profile)
            noisy = different_cells(old.outputs, again.outputs)
            print(f"  outputs: two runs of the old code differ in cells {sorted(noisy)}")
            cells -= noisy
        if cells:
            self.faults.append(f"its outputs: cells {sorted(cells)} show something else")
        elif outputs:
            self._stamp()

    def _append(self, name: str, by: str) -> None:
        renewal = {"commit": self.head, "code": self._code(name), "by": by}
        self.record["experiments"][name]["renewals"].append(renewal)
        records.write_record(self.record, self.path)
        print(f"  {name}: renewed by {by}")

    def _stamp(self) -> None:
        """Put the present hash into the outputs' metadata."""
        pair = read_pair(self.source)
        made = {"code": outputs_hash(self.source, "cpu"), "commit": self.head}
        made = dict(pair.metadata["gentok"]) | made
        write(pair, self.source, made)
        print("  outputs: renewed by replay")


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    """Entry point; exit code 0: all proven, 1: something differs, 2: bad input."""
    parser = argparse.ArgumentParser(prog="python -m gentok.book.renew", description=__doc__)
    parser.add_argument("slug", nargs="?", help="a notebook's slug; all of them if left out")
    parser.add_argument("--experiment", default="", help="this experiment of it alone")
    options = parser.parse_args(arguments)
    try:
        root = find_root()
        if changed := _git(root, "status", "--porcelain", "-uno", "--", "lib", "notebooks/*.py"):
            raise ValueError(f"commit the code first, since a renewal names a commit:\n{changed}")
        recorded = {path.stem for path in (root / "book" / "results").glob("*.json")}
        every = sorted(recorded | {path.stem for path in sources(root)})
        slugs = [options.slug] if options.slug else every
        proven = True
        for slug in slugs:
            chapter = Chapter(slug, root, options.experiment)
            proven &= chapter.renew()
            for fault in chapter.faults:
                print(f"{chapter.slug}, {fault} (make study or make execute)", file=sys.stderr)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())
