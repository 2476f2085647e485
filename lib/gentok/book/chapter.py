"""What the cells of every chapter repeat: opening, tables, numbers in prose, health, cost.

    page = chapter.open("enat", profile)
    page.say("{share:.0%} of {n} samples are taken for their class.", share=0.83, n=400)
    page.healthy("ENAT, loss at the end (nats)", loss, low=2.4, high=2.8)
    page.claims()
    page.cost()

Numbers reach prose in two ways. `Chapter.say` prints a sentence, which every reader sees.
`Chapter.glue` stores a value under a name, and the text of the page takes it by
MyST's role ``glue:text``; the value travels in the stored output, so page and run agree.
"""

# ruff: noqa: E402
import warnings

# Before anything imports tqdm: it says so as soon as it is imported, in every notebook.
warnings.filterwarnings("ignore", message="IProgress not found")

import math
import os
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from string import Formatter

import psutil
import torch

from gentok.book.records import use_installed_weights
from gentok.book.study import Study
from gentok.show import plot
from gentok.show.code import show_code
from gentok.show.table import Table
from gentok.training import profiles
from gentok.training.weights import find

__all__ = ["Chapter", "NotInTheBook", "Sentence", "open", "show_code"]

RECORD = "application/papermill.record/"  # outputs of this kind are stored and not drawn
MEMORY_EVERY = 0.1  # seconds between two looks at the memory in use
MIB = 2**20


class NotInTheBook(FileNotFoundError):
    """A chapter was opened where its records cannot be found; shown in a notebook as one line."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Sentence:
    """A sentence of the page whose numbers come from this run."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


def open(slug: str, profile: str, seed: int = 0) -> "Chapter":
    """Begin a chapter: style, seed, profile, study, and the clock.

    Args:
        slug: the system, as in `gentok.book.registry`.
        profile: what the notebook asks for; ``GENTOK_PROFILE`` wins.
        seed: of torch, for everything that the page trains live.

    Raises:
        ValueError: if the slug or the profile is unknown.
        NotInTheBook: if there is no checkout around the working folder and ``GENTOK_RESULTS`` names
            no folder of records either.
    """
    plot.use_style()
    use_installed_weights()
    level = profiles.profile(profile)
    try:
        study = Study(slug, level)
    except FileNotFoundError:
        raise _far_from_the_book(slug) from None
    torch.manual_seed(seed)
    for line in _absent(study):
        print(line)
    return Chapter(study, level, seed)


def _absent(study: Study) -> list[str]:
    """A sentence for each stored thing that this chapter reads and that is not there."""
    slug = study.slug
    try:
        record = study.path
    except FileNotFoundError:
        raise _far_from_the_book(slug) from None
    lines = []
    if not study.trains and not record.is_file():
        lines.append(f"{slug} has no recorded runs yet; `make study NB={slug}` makes them.")
    if find(slug) is None:
        lines.append(f"{slug} has no trained weights yet; `make weights NB={slug}` makes them.")
    return lines


def _far_from_the_book(slug: str) -> NotInTheBook:
    return NotInTheBook(
        f"The chapter {slug!r} reads recorded runs and trained weights, and none are near "
        f"{Path.cwd()}. Run it inside a copy of the book's repository (git clone, then `make "
        "lab`), or set GENTOK_RESULTS to a folder of records before the kernel starts."
    )


class Chapter:
    """One open chapter.

    Args:
        study: its experiments and claims.
        level: the profile in force.
        seed: what torch was seeded with.
    """

    def __init__(self, study: Study, level: profiles.Profile, seed: int):
        self.study, self.level, self.seed = study, level, seed
        self.slug, self.device = study.slug, level.device
        self._health: list[tuple[str, str, str, str]] = []
        self._meter = Meter()

    def claims(self) -> Table:
        """The claims of the paper: verdict, claim and measurement side by side."""
        rows = claim_rows(self.study)
        kinds = [f"verdict-{row[0]}" for row in rows]
        return Table(("verdict", "claim of the paper", "measured here"), rows, kinds=kinds)

    def rows(self, values: Mapping[str, object], title: str = "") -> Table:
        """A table of two columns: a name and its value, floats with four digits.

        Args:
            values: name (with its unit) to value.
            title: a line above.
        """
        return Table(("", ""), [(name, _plain(value)) for name, value in values.items()], title)

    def healthy(self, name: str, value: float, low: float, high: float) -> Table:
        """Hold a number of the live run against the range of a healthy one.

        Args:
            name: what it is, with its unit.
            value: of this run; ``low`` and ``high``: the ends of the range, both included.

        Returns:
            the table of all numbers held so far, this one in the last row.

        Raises:
            ValueError: if the range is empty.
        """
        if not low <= high:
            raise ValueError(f"{name}: a range goes from low to high, got {low} to {high}")
        if self.level.name == "smoke":
            word = "not judged (smoke)"
        else:  # NaN lies in no range
            word = "inside" if low <= float(value) <= high else "OUTSIDE"
        span = f"{_plain(low)} to {_plain(high)}"
        self._health.append((word, name, _plain(float(value)), span))
        kinds = ["verdict-contradicted" if row[0] == "OUTSIDE" else "" for row in self._health]
        return Table(("", "what", "this run", "healthy"), self._health, kinds=kinds)

    def say(self, sentence: str, /, **numbers: object) -> Sentence:
        """A sentence with numbers of this run: ``say("{n} of {m} digits", n=3, m=10)``.

        Args:
            sentence: text with fields in braces, formatted as by `str.format`; Markdown is allowed.
            numbers: a value for each field.

        Raises:
            ValueError: if a field has no value, or a value no field.
        """
        fields = {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}
        if fields != set(numbers):
            raise ValueError(f"say: the fields are {sorted(fields)}, got {sorted(numbers)}")
        return Sentence(sentence.format(**numbers))

    def glue(self, name: str, value: object, spec: str = "") -> None:
        """Store a value for the text of the page, which takes it by MyST's role ``glue:text``.

        Args:
            name: of the value; begins with the slug, since names are shared by all pages.
            value: a number, or text; ``spec``: how to write it, as for `format` (``".0%"``).

        Raises:
            ValueError: if the name does not begin with the slug.
        """
        if not name.startswith(f"{self.slug}_"):
            raise ValueError(f"a glued name of this chapter begins with {self.slug}_, got {name!r}")
        from IPython.display import display  # comes with notebooks; nothing else here needs it

        metadata = {"scrapbook": {"name": name, "mime_prefix": RECORD}}
        display({f"{RECORD}text/plain": repr(format(value, spec))}, raw=True, metadata=metadata)

    def cost(self) -> Table:
        """What this run took until now: time, peak memory, device, threads.

        The box at the top of the page shows them, too: they are glued as ``<slug>_seconds``,
        ``<slug>_time``, ``<slug>_memory`` and ``<slug>_device``.
        """
        seconds, peak = self._meter.read()
        threads = torch.get_num_threads()
        machine = f"{self.device}, {threads} thread{'s' * (threads != 1)}, {os.cpu_count()} cores"
        values = {
            "profile": self.level.name,
            "time": _duration(math.ceil(seconds)),
            "memory": f"{peak / MIB:,.0f} MiB",
            "device": machine,
        }
        if self.device.startswith("cuda"):
            values["GPU memory"] = f"{torch.cuda.max_memory_allocated() / MIB:,.0f} MiB"
        self.glue(f"{self.slug}_seconds", math.ceil(seconds))
        for name in ("time", "memory", "device"):
            self.glue(f"{self.slug}_{name}", values[name])
        return self.rows(values, "What this run cost")


class Meter:
    """Time and peak memory of this process from now on, on every system that psutil knows.

    The peak is the largest resident size among looks taken every tenth of a second by a thread.
    """

    def __init__(self):
        self._began, self._process, self._peak = time.perf_counter(), psutil.Process(), 0
        threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True).start()

    def read(self) -> tuple[float, int]:
        """Seconds since the start, and the peak in bytes."""
        self.look()
        return time.perf_counter() - self._began, self._peak

    def look(self) -> None:
        """Take the memory in use now into the peak."""
        self._peak = max(self._peak, self._process.memory_info().rss)


def _watch(reference: weakref.ref) -> None:
    """Look until nobody holds the meter any more, as when its cell is run again."""
    while (meter := reference()) is not None:
        meter.look()
        del meter
        time.sleep(MEMORY_EVERY)


def claim_rows(study: Study) -> list[tuple[str, str, str]]:
    """Verdict, claim (with its place in the paper and the note) and measurement of each claim."""
    rows = []
    for claim in study.table().to_dict("records"):
        place = f" ({claim['section']})" if claim["section"] else ""
        note = f"\n{claim['note']}" if claim["note"] else ""
        measured = f"{claim['metric']}: {claim['difference']}, {claim['seeds']} seeds"
        says = f"{claim['id']}: {claim['claim']}{place}{note}"
        rows.append((claim["verdict"], says, f"{measured}\nexpected {claim['expected']}"))
    return rows


def _duration(seconds: int) -> str:
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


def _plain(value: object) -> str:
    """A float with four digits, anything else as it prints."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
