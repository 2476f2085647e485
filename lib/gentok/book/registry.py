"""The 34 systems of the book: what each is, which paper it comes from, and where its code is.

A system's slug is its address everywhere: the package ``lib/gentok/<part>/<slug>/``, the chapter
``notebooks/<part>/<slug>.py``, the tests ``tests/<part>/test_<slug>*.py`` and its page in the book.
The entries stand in ``systems.json`` in the book's reading order; a system whose chapter is written
names its ``module`` there.
"""

import importlib
import json
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from types import ModuleType

PARTS: dict[str, str] = {
    "latents": "Continuous tokenizers",
    "tokens": "Discrete tokenizers and token generators",
    "diffusion": "Generators on latents",
    "video": "Video",
    "shapes": "Point clouds, meshes, views",
    "signals": "Motion and music",
    "backbones": "Backbones",
    "efficient": "Efficient transformers",
    "interpret": "Interpretation",
}


@dataclass(frozen=True)
class System:
    """One published system.

    Args:
        slug: its name in file names and on the command line.
        part: the part of the book, a key of `PARTS`.
        title: the paper's title.
        year: year of the first arXiv version.
        arxiv: the arXiv number.
        key: citation key in ``book/references.bib``.
        summary: what the system does, in one line.
        module: import path of its code, or None while the chapter is planned.
    """

    slug: str
    part: str
    title: str
    year: int
    arxiv: str
    key: str
    summary: str
    module: str | None = None

    @property
    def state(self) -> str:
        """``"complete"`` when the system has code and a chapter, else ``"planned"``."""
        return "complete" if self.module else "planned"


_DATA = resources.files("gentok.book").joinpath("systems.json").read_text(encoding="utf-8")
_SYSTEMS = tuple(System(**entry) for entry in json.loads(_DATA))
_BY_SLUG = {system.slug: system for system in _SYSTEMS}
_BEFORE = resources.files("gentok.book").joinpath("prerequisites.json")


def systems() -> tuple[System, ...]:
    """All systems in the book's reading order."""
    return _SYSTEMS


def nearest(word: str, known: list[str]) -> str:
    """Return " (did you mean a, b?)" for the entries of ``known`` close to ``word``, or ""."""
    close = get_close_matches(word, known, n=3, cutoff=0.5)
    return f" (did you mean {', '.join(close)}?)" if close else ""


def get(slug: str) -> System:
    """Return the system of that slug.

    Raises:
        ValueError: if there is none; the message names the closest slugs.
    """
    if slug not in _BY_SLUG:
        hint = nearest(slug, list(_BY_SLUG)) or "; `gentok list` prints them all"
        raise ValueError(f"unknown system {slug!r}{hint}")
    return _BY_SLUG[slug]


def prerequisites(slug: str) -> dict[str, str]:
    """The chapters to read before one, in reading order, and what each is needed for.

    Raises:
        ValueError: if there is no such system.
    """
    return json.loads(_BEFORE.read_text(encoding="utf-8"))[get(slug).slug]


def load(slug: str) -> ModuleType:
    """Import the module of a system that has code.

    Raises:
        ValueError: if the slug is unknown, or its chapter is still planned.
    """
    system = get(slug)
    if system.module is None:
        ready = ", ".join(s.slug for s in _SYSTEMS if s.module)
        raise ValueError(f"system {slug!r} is planned and has no code yet; ready: {ready}")
    return importlib.import_module(system.module)


def recipe(slug: str) -> ModuleType:
    """Import how a system is trained and sampled, ``<package>.recipe``.

    Raises:
        ValueError: as `load`.
    """
    load(slug)
    return importlib.import_module(f"{get(slug).module}.recipe")
