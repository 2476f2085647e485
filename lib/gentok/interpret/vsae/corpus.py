"""Text as contexts of tokens, each token with labels that follow from the text itself.

Labels are what probes ask for: which text a token comes from, what kind of line it stands in,
what kind of token it is, whether a word ends with it. Nobody annotated anything; the layout of the
two texts says it all.

Shapes: N contexts, T tokens a context.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gentok.base.language_model import END_OF_TEXT
from gentok.data import text

LINES = ("prose", "code", "grammar", "heading", "verse", "speaker")
KINDS = ("word", "word part", "punctuation", "digit", "space")
ENDS = ("the word goes on", "the word ends")
NONE = -1  # the label does not apply to this token
PIECE, EVERY = 4096, 8  # characters of a piece; one piece in eight is kept from all training

_CODE = re.compile(
    r"\s*(>>>|\.\.\.|@\w|#|(def|class|for|while|if|elif|else|try|except|finally|with|async|match|"
    r"case|import|from|return|raise|print|del|pass|yield|assert)\b.*[:()=]|[\w.\[\], *]+ \W?= )"
)


@dataclass(frozen=True)
class Corpus:
    """Text cut into contexts.

    Args:
        tokens: (N, T), int64.
        labels: name to a class for each token, (N, T), int64, -1 where it does not apply.
        classes: name to the names of the classes.
        tokenizer: made the tokens.
        source: where the text is from, in words.
    """

    tokens: Tensor
    labels: dict[str, Tensor]
    classes: dict[str, tuple[str, ...]]
    tokenizer: PreTrainedTokenizerFast
    source: str

    def __len__(self) -> int:
        return len(self.tokens)

    def shuffled(self, seed: int = 0) -> "Corpus":
        """The same contexts in a random order."""
        return self._take(torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)))

    def head(self, count: int | None) -> "Corpus":
        """The first ``count`` contexts, or all."""
        return self if count is None else self._take(torch.arange(min(count, len(self))))

    def _take(self, rows: Tensor) -> "Corpus":
        labels = {name: values[rows] for name, values in self.labels.items()}
        return Corpus(self.tokens[rows], labels, self.classes, self.tokenizer, self.source)

    def words(self, context: int) -> list[str]:
        """The tokens of one context as text, one string a token."""
        return [self.tokenizer.decode([token]) for token in self.tokens[context].tolist()]


def book_texts(download: bool = False) -> dict[str, str]:
    """Python's own reference and, where there, as many characters of Shakespeare.

    Args:
        download: fetch Shakespeare from the hub if the data folder has none.

    Returns:
        ``{"pydoc": ...}`` or ``{"pydoc": ..., "tinyshakespeare": ...}``.
    """
    texts = {"pydoc": text("pydoc")}
    try:
        shakespeare = text("tinyshakespeare", download=download)
    except FileNotFoundError:
        return texts
    return texts | {"tinyshakespeare": shakespeare[: len(texts["pydoc"])]}


def split_texts(
    texts: dict[str, str], piece: int = PIECE, every: int = EVERY
) -> tuple[dict[str, str], dict[str, str]]:
    """Every eighth piece of each text for testing, the rest for training: (train, test).

    Pieces, because a text's end is often about other things than its beginning.

    Raises:
        ValueError: if a text has fewer pieces than ``every``.
    """
    train, test = {}, {}
    for name, string in texts.items():
        pieces = [string[i : i + piece] for i in range(0, len(string), piece)]
        if len(pieces) < every:
            raise ValueError(f"text {name!r} has {len(pieces)} pieces of {piece}, needs {every}")
        kept = pieces[every - 1 :: every]
        train[name] = "".join(p for i, p in enumerate(pieces) if i % every != every - 1)
        test[name] = "".join(kept)
    return train, test


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte: 257 tokens, the end of text and 256 bytes, whatever the text."""
    return train_tokenizer([], 257)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, the kind of tokenizer that GPT-NeoX and Pythia use.

    Args:
        texts: what to train on.
        vocab_size: tokens, at least 257 (the bytes and the end of text).
    """
    if vocab_size < 257:
        raise ValueError(f"vocab_size must be at least 257, got {vocab_size}")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        texts, vocab_size=vocab_size, special_tokens=[END_OF_TEXT], show_progress=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END_OF_TEXT)


def read_corpus(texts: dict[str, str], tokenizer: PreTrainedTokenizerFast, context: int) -> Corpus:
    """Tokenize texts, cut them into contexts, and label every token.

    Args:
        texts: source name to text.
        tokenizer: any fast tokenizer of `transformers`.
        context: T; a rest shorter than this at the end of a text is dropped.

    Raises:
        ValueError: if a text is shorter than one context.
    """
    parts: list[dict[str, Tensor]] = []
    for number, (name, string) in enumerate(texts.items()):
        encoded = tokenizer(string, return_offsets_mapping=True, verbose=False)
        whole = len(encoded["input_ids"]) // context
        if whole == 0:
            raise ValueError(f"text {name!r} is shorter than one context of {context} tokens")
        columns = _label(string, encoded["offset_mapping"], number)
        columns["tokens"] = encoded["input_ids"]
        parts.append(
            {
                key: torch.tensor(values[: whole * context]).view(whole, context)
                for key, values in columns.items()
            }
        )
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    classes = {"source": tuple(texts), "line": LINES, "kind": KINDS, "ends": ENDS}
    sizes = ", ".join(f"{name} ({len(string):,} characters)" for name, string in texts.items())
    return Corpus(joined.pop("tokens"), joined, classes, tokenizer, sizes)


def _label(string: str, offsets: list[tuple[int, int]], source: int) -> dict[str, list[int]]:
    """Labels of the tokens that cover ``string[start:end]``."""
    lines = line_kinds(string)
    columns: dict[str, list[int]] = {name: [] for name in ("source", "line", "kind", "ends")}
    for start, end in offsets:
        while start < end - 1 and string[start].isspace():
            start += 1
        first, after = string[start], string[end : end + 1]
        new_word = first.isalpha() and not (start and string[start - 1].isalnum())
        columns["source"].append(source)
        columns["line"].append(lines[start])
        columns["kind"].append(_kind(first, new_word))
        columns["ends"].append(int(not after.isalpha()) if string[end - 1].isalpha() else NONE)
    return columns


def _kind(first: str, new_word: bool) -> int:
    if first.isalpha():
        return KINDS.index("word" if new_word else "word part")
    if first.isdigit():
        return KINDS.index("digit")
    return KINDS.index("space" if first.isspace() else "punctuation")


def line_kinds(string: str) -> list[int]:
    """The kind of the line that each character stands in: an index into `LINES`.

    Plays have lines ending in a colon after a blank line (the speaker) and verse below. Manuals
    have underlined headings, grammar rules with ``::=``, blocks of code, and prose.
    """
    lines = string.split("\n")
    speakers = [_is_speaker(lines, i) for i in range(len(lines))]
    # Manuals too have a one-line paragraph with a colon now and then; plays have them all along.
    play = sum(speakers) > 0.05 * len(lines)
    names = ["verse"] * len(lines) if play else _manual_lines(lines)
    kinds: list[int] = []
    for line, name, speaker in zip(lines, names, speakers, strict=True):
        kind = LINES.index("speaker" if play and speaker else name)
        kinds += [kind] * (len(line) + 1)  # the line break belongs to its line
    return kinds[: len(string)]


def _is_speaker(lines: list[str], i: int) -> bool:
    line = lines[i]
    alone = i == 0 or not lines[i - 1]
    return alone and line.endswith(":") and line[0].isupper() and len(line) < 30


def _manual_lines(lines: list[str]) -> list[str]:
    """Names of the kinds of a manual's lines, paragraph by paragraph."""
    names = ["prose"] * len(lines)
    start = 0
    for i in range(len(lines) + 1):
        if i < len(lines) and lines[i].strip():
            continue
        block = lines[start:i]
        names[start:i] = [_block_kind(block)] * len(block)
        start = i + 1
    return names


def _block_kind(block: list[str]) -> str:
    if len(block) == 2 and re.fullmatch(r"([*=\-~^\"])\1{3,}", block[1].strip()):
        return "heading"
    if any("::=" in line for line in block):
        return "grammar"
    indented = [line for line in block if line.startswith("   ")]
    code = sum(bool(_CODE.match(line)) for line in indented)
    return "code" if block and 2 * code >= len(block) else "prose"
