"""A list of things that a feature may stand for, written down before any feature was seen.

Each concept is a question about a place in a text that anybody can check by eye: "is this letter
the h of 'th'?", "is this inside brackets?", "is this the blank after the word 'the'?". All are
answered from the text up to that place and the layout of its line; no network is asked.

Shapes: C characters of a text.
"""

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase, digits, printable, punctuation

import numpy as np

from gentok.interpret.vsae.corpus import LINES, line_kinds

Mask = np.ndarray  # (C,) bool
BLANK = "\N{OPEN BOX}"
# Common words of English and of plays; Python's keywords come from Python.
WORDS = (
    "the", "and", "that", "with", "this", "for", "not", "are", "was", "you", "your", "his", "her",
    "him", "she", "they", "them", "their", "there", "then", "than", "which", "what", "when",
    "where", "who", "will", "would", "shall", "should", "have", "has", "had", "been", "being",
    "from", "into", "upon", "but", "all", "any", "can", "could", "may", "must", "more", "most",
    "some", "such", "only", "one", "two", "first", "same", "other", "each", "used", "value",
    "object", "name", "class", "function", "method", "type", "string", "number", "list", "argument",
    "expression", "statement", "module", "attribute", "default", "example", "following", "called",
    "defined", "exception", "error", "returns", "code", "my", "me", "our", "us", "we", "thou",
    "thee", "thy", "lord", "king", "sir", "good", "love", "man", "come", "let", "make", "well",
    "now", "here", "how", "is", "it", "in", "of", "to", "as", "at", "be", "by", "do", "he", "if",
    "no", "on", "or", "so", "an",
    *(word for word in keyword.kwlist if word.islower()),
)  # fmt: skip


@dataclass(frozen=True)
class Concept:
    """A question about a place in a text.

    Args:
        name: the answer "yes" in words.
        family: ``"character"`` if the character alone decides, else what else has to be known.
    """

    name: str
    family: str


def concepts(text: str) -> Iterator[tuple[Concept, Mask]]:
    """All concepts, each with the characters of the text at which it holds, (C,) bool.

    The list is always the same and in the same order: simple ones first.
    """
    for family, found in (
        ("character", _characters),
        ("line", _lines),
        ("brackets", _brackets),
        ("sentence", _sentences),
        ("place in a word", _places),
        ("two letters", _pairs),
        ("word", _words),
    ):
        for name, mask in found(text):
            yield Concept(name, family), mask


def shown(characters: str) -> str:
    """Characters with blanks and line breaks made visible, in quotes."""
    return f"'{characters.replace(' ', BLANK).replace(chr(10), '⏎')}'"


def _letters(text: str) -> np.ndarray:
    """Code points, (C,)."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _is(text: str, characters: str) -> Mask:
    return np.isin(_letters(text), _letters(characters))


def _before(mask: Mask, by: int = 1) -> Mask:
    """What held ``by`` characters earlier."""
    return np.concatenate([np.zeros(by, dtype=bool), mask[:-by]])


def _spans(pattern: str, text: str, flags: int = 0) -> Mask:
    """The characters of all matches; of group 1 where the pattern has one."""
    mask = np.zeros(len(text), dtype=bool)
    for match in re.finditer(pattern, text, flags):
        start, end = match.span(1 if match.re.groups else 0)
        mask[start:end] = True
    return mask


def _characters(text: str) -> Iterator[tuple[str, Mask]]:
    yield "a digit", _is(text, digits)
    yield "a capital letter", _is(text, ascii_uppercase)
    yield "a small letter", _is(text, ascii_lowercase)
    yield "a vowel", _is(text, "aeiouAEIOU")
    yield "a consonant", _is(text, "".join(sorted(set(ascii_lowercase) - set("aeiou"))))
    yield "a punctuation mark", _is(text, punctuation)
    yield "a blank or a line break", _is(text, " \n")
    for character in "\n" + printable[: printable.index("\t")]:
        yield f"the character {shown(character)}", _is(text, character)


def _lines(text: str) -> Iterator[tuple[str, Mask]]:
    newline = _is(text, "\n")
    first = _before(newline)
    yield "the first character of a line", first & ~newline
    yield "the first two characters of a line", (first | _before(first)) & ~newline
    yield "a line break after a line of text", newline & ~first
    yield "an empty line", newline & first
    yield "the first character after an empty line", _before(newline & first) & ~newline
    yield "indentation", _spans(r"^ +", text, re.M)
    yield "the first character after indentation", _spans(r"^ +(\S)", text, re.M)
    yield "the line break after a comma", newline & _before(_is(text, ","))
    yield "the line break after a colon", newline & _before(_is(text, ":"))
    yield "the line break after a full stop", newline & _before(_is(text, "."))
    yield "in the first word of a line", _spans(r"^ *(\w+)", text, re.M)
    yield "a repeated sign, as under a heading", _runs(text)
    kinds = np.array(line_kinds(text))
    for number, name in enumerate(LINES):
        yield f"in a line of {name}", kinds == number


def _runs(text: str) -> Mask:
    """The third and later of equal punctuation marks."""
    same = np.concatenate([[False], _letters(text)[1:] == _letters(text)[:-1]])
    return same & _before(same) & _is(text, punctuation)


def _brackets(text: str) -> Iterator[tuple[str, Mask]]:
    yield "inside round brackets", _spans(r"\(([^()\n]{1,120})", text)
    yield "inside square brackets", _spans(r"\[([^\[\]\n]{1,120})", text)
    yield "inside braces", _spans(r"\{([^{}\n]{1,120})", text)
    yield "inside double quotes", _spans(r"\"([^\"\n]{1,80})\"", text)
    yield "inside single quotes", _spans(r"(?<!\w)'([^'\n]{1,80})'", text)
    yield "the first letter inside quotes", _spans(r"(?:\"|(?<!\w)')(\w)", text)
    yield "the first letter inside brackets", _spans(r"[(\[{](\w)", text)
    yield "in a name with a low line, after the low line", _spans(r"\w*?_(\w*)", text)
    yield "in a dotted name, after the dot", _spans(r"\w\.(\w+)", text)
    yield "in a prompt or a comment", _spans(r"(?:>>>|\.\.\. |#).*", text)
    yield "in '::='", _spans(r"::=", text)


def _sentences(text: str) -> Iterator[tuple[str, Mask]]:
    yield "the blank after a full stop", _spans(r"\.( )", text)
    yield "the blank after a comma", _spans(r",( )", text)
    yield "the blank after a colon or semicolon", _spans(r"[;:]( )", text)
    yield "a second blank", _is(text, " ") & _before(_is(text, " "))
    yield "the first letter of a sentence", _spans(r"[.!?][ \n]+([A-Z])", text)
    yield "in the first word of a sentence", _spans(r"[.!?][ \n]+([A-Z]\w*)", text)
    yield "a capital letter that begins a line", _spans(r"^([A-Z])", text, re.M)
    yield "a capital letter within a line", _spans(r"(?<=\S )([A-Z])", text)
    yield "in a word of capitals", _spans(r"[A-Z](?=[A-Z])([A-Z]+)", text)
    yield "in a word that begins with a capital", _spans(r"\b[A-Z](\w+)", text)
    yield "in a speaker's name", _spans(r"^([A-Z][A-Za-z ]{1,25}):$", text, re.M)
    yield "the line break after a speaker's name", _spans(r"^[A-Z][A-Za-z ]{1,25}:(\n)", text, re.M)
    yield "after an apostrophe within a word", _spans(r"\w'(\w+)", text)
    yield "a digit after a digit", _spans(r"\d(\d+)", text)
    yield "a digit after a dot", _spans(r"\.(\d+)", text)


def _places(text: str) -> Iterator[tuple[str, Mask]]:
    inside = _is(text, ascii_lowercase + ascii_uppercase)
    index = np.arange(len(text))
    since = index - np.maximum.accumulate(np.where(inside, -1, index))
    place = np.where(inside, since, 0)  # 1 for the first letter of a word
    for number, name in enumerate(("first", "second", "third", "fourth", "fifth"), 1):
        yield f"the {name} letter of a word", place == number
    yield "the fourth letter of a word or a later one", place >= 4
    yield "the sixth letter of a word or a later one", place >= 6
    for letter in ascii_lowercase + ascii_uppercase:
        yield f"a word's first letter, {shown(letter)}", (place == 1) & _is(text, letter)


def _pairs(text: str) -> Iterator[tuple[str, Mask]]:
    masks = {letter: _is(text, letter) for letter in ascii_lowercase}
    earlier = {letter: _before(mask) for letter, mask in masks.items()}
    for one in ascii_lowercase:
        for two in ascii_lowercase:
            yield f"the second letter of {shown(one + two)}", earlier[one] & masks[two]
    for letter in ascii_lowercase:
        yield f"the blank after {shown(letter)}", earlier[letter] & _is(text, " ")
        yield f"the letter after {shown(letter)}", earlier[letter] & _is(text, ascii_lowercase)


def _words(text: str) -> Iterator[tuple[str, Mask]]:
    beginnings = {word[:n] for word in WORDS for n in range(2, len(word) + 1)}
    for string in sorted(beginnings, key=lambda s: (len(s), s)):
        pattern = rf"(?<![A-Za-z]){string[:-1]}({string[-1]})"
        yield f"the last letter of a word's beginning {shown(string)}", _spans(pattern, text)
    for word in sorted(set(WORDS)):
        yield f"the blank after the word {shown(word)}", _spans(rf"\b{word}( )", text)
        yield f"in the word after {shown(word)}", _spans(rf"\b{word} ([A-Za-z]+)", text)
    for ending in ("ing", "ed", "ion", "tion", "ment", "ly", "er", "est", "ble", "ent", "ous"):
        yield (
            f"the last letter of the ending {shown(ending)}",
            _spans(rf"[a-z]{ending[:-1]}({ending[-1]})(?![a-z])", text),
        )
