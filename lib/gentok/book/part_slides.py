"""A deck for each part's introduction, from the page itself: ``book/parts/<part>.md``.

The question, each formula with the sentence that leads to it, a slide a system with its first two
sentences, the table of relations, and the questions to discuss: what a lecturer would put up. The
page stays the only source.
"""

import re
from pathlib import Path

from gentok.book.slides import document, inline, to_html

CITATION = re.compile(r" ?\{cite:[pt]\}`[^`]*`")
EQUATION = re.compile(r"(Equation |equation )?\{eq\}`[^`]*`")
PLACE = re.compile(r"\{(?:doc|ref)\}`(?:[^`<]*/)?([\w-]+)`")  # a page without words of its own
FORMULA = re.compile(r"^\$\$\n(.*?)^\$\$(?: \([\w-]+\))?$", re.M | re.S)
SYSTEM = re.compile(r"\*\*(.+?)\*\*(.*)", re.S)
SENTENCE = re.compile(r"(?:(?<=[.?!])|(?<=[.?!]\*))\s+(?=[A-Z*{$\"])")
SENTENCES = 2  # of a system


def part_deck(path: Path) -> str:
    """The deck of one part's page, as the text of an HTML file.

    Raises:
        ValueError: if the page has no question, no systems or nothing to discuss.
    """
    page = CITATION.sub("", path.read_text("utf-8"))
    page = EQUATION.sub(lambda at: f"{'T' if at[1] == 'Equation ' else 't'}he formula", page)
    page = PLACE.sub(r"*\1*", page)
    title = re.search(r"^# (.+)$", page, re.M)[1]
    head, *rest = re.split(r"^## (.+)$", page, flags=re.M)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    slides = [_slide("The question", _question(head, path))]
    slides += [_slide("The shared idea", words) for words in _formulas(_named(sections, "idea"))]
    systems = _systems(_named(sections, "system"))
    slides += [_slide(name, words) for name, words in systems]
    slides += [
        _slide("How they relate", table) for table in _tables(_named(sections, "relate", ""))
    ]
    asked = _named(sections, "To discuss", "").strip()
    if not systems or not asked:
        raise ValueError(f"{path} needs systems and a section 'To discuss'")
    slides.append(_slide("To discuss", asked))
    return document(inline(title, {}), f"part {path.stem}", slides)


def _slide(title: str, words: str) -> str:
    return f"<section><h2>{inline(title, {})}</h2>{to_html(words, {})}</section>"


def _named(sections: dict[str, str], word: str, default: str | None = None) -> str:
    """The first section whose heading holds a word."""
    for heading, words in sections.items():
        if word in heading:
            return words
    if default is None:
        raise ValueError(f"no section on {word!r}; there are: {', '.join(sections)}")
    return default


def _question(head: str, path: Path) -> str:
    found = re.search(r"\*\*The question of this part\.\*\* *(.+?)(?:\n\n|\Z)", head, re.S)
    if not found:
        raise ValueError(f"{path} does not say **The question of this part.**")
    return found[1]


def _formulas(words: str) -> list[str]:
    """Each display formula under the last sentence before it."""
    found = []
    for match in FORMULA.finditer(words):
        before = words[: match.start()].strip().split("\n\n")[-1]
        leads = "" if before.endswith("$$") else SENTENCE.split(before)[-1]
        found.append(f"{leads}\n\n$$\n{match[1]}$$\n")
    return found


def _systems(words: str) -> list[tuple[str, str]]:
    """Name and first sentences of each paragraph that opens with a bold name."""
    found = []
    for paragraph in words.strip().split("\n\n"):
        if match := SYSTEM.fullmatch(paragraph):
            sentences = SENTENCE.split(f"{match[1]}{match[2]}".strip())
            found.append((match[1], " ".join(sentences[:SENTENCES])))
    return found


def _tables(words: str) -> list[str]:
    return [block for block in words.split("\n\n") if block.lstrip().startswith("|")]
