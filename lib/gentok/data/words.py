"""A word-level vocabulary for the procedural world's captions and answers.

Small text-conditioned models need few words, always the same numbers for them, and a plain error
for any other. Punctuation marks are words of their own.

Shapes: n texts, L places.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from gentok.data.world import COLOURS, RELATIONS, SHAPES, TEXTURES

PAD, START, END = "<pad>", "<start>", "<end>"  # ids 0, 1 and 2

WORLD_WORDS: tuple[str, ...] = (
    *("a", "an", "the", "on", "of", "and", "which", "is", "floor", ",", "."),
    *("small", "large"),
    *("moving", "slowly", "quickly", "left", "right", "up", "down"),
    *(word for word in " ".join(RELATIONS).split() if word not in ("left", "right", "of")),
    *COLOURS,
    *SHAPES,
    *TEXTURES,
)


def split_words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks: "A disc, red." -> a disc , red ."""
    return re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower())


class Words:
    """Words and their numbers; 0 pads, 1 starts, 2 ends a text.

    Args:
        words: the vocabulary, in order; all captions of the world and of its clips by default.

    Raises:
        ValueError: if a word comes twice, or is not one word by :func:`split_words`.
    """

    def __init__(self, words: Sequence[str] = WORLD_WORDS):
        for word in words:
            if split_words(word) != [word]:
                raise ValueError(f"words must be single lower-case words, got {word!r}")
        self.words = (PAD, START, END, *words)
        self.ids = {word: number for number, word in enumerate(self.words)}
        if len(self.ids) != len(self.words):
            twice = sorted({word for word in words if list(words).count(word) > 1})
            raise ValueError(f"words must differ, got {', '.join(twice)} more than once")

    def __len__(self) -> int:
        """Size of the vocabulary, the three specials included."""
        return len(self.words)

    def encode(
        self, texts: Sequence[str], length: int, start: bool = False, end: bool = False
    ) -> Tensor:
        """Numbers of the words, padded behind.

        Args:
            texts: n texts.
            length: L.
            start, end: whether to put the special words before and after each text.

        Returns:
            (n, L) int64.

        Raises:
            ValueError: if a word is unknown or a text too long; both are named.
        """
        rows = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            words = [START] * start + split_words(text) + [END] * end
            unknown = [word for word in words if word not in self.ids]
            if unknown:
                known = " ".join(self.words[3:])
                raise ValueError(f"texts: unknown word {unknown[0]!r} in {text!r}; known: {known}")
            if len(words) > length:
                raise ValueError(f"texts: at most {length} places, got {len(words)} for {text!r}")
            row[: len(words)] = torch.tensor([self.ids[word] for word in words], dtype=torch.int64)
        return rows

    def decode(self, ids: Tensor) -> list[str]:
        """Texts of numbers (n, L), read up to the first end; padding and start are left out.

        Raises:
            ValueError: if a number is not in the vocabulary.
        """
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(self):
            raise ValueError(
                f"ids must lie in [0, {len(self)}), got {int(ids.min())} to {int(ids.max())}"
            )
        texts = []
        for row in ids.tolist():
            upto = row.index(2) if 2 in row else len(row)
            text = " ".join(self.words[number] for number in row[:upto] if number > 2)
            texts.append(re.sub(r" (?=[,.])", "", text))
        return texts


def word_mask(ids: Tensor) -> Tensor:
    """True where a text has a word and no padding: (n, L) -> (n, L) bool."""
    return ids != 0
