"""Text as characters: a fixed alphabet of 96, and windows of a text as batches.

The alphabet is the new line and the 95 printable characters of ASCII, so that a model's vocabulary
does not depend on which characters one edition of a text happens to hold.

Shapes: N characters, B batch, T length of a window.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gentok.data.imageset import generator

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
_INDEX = {character: index for index, character in enumerate(ALPHABET)}


def to_ids(text: str) -> Tensor:
    """Characters to ids (N,), int64 in [0, 96); characters outside the alphabet become "?"."""
    unknown = _INDEX["?"]
    return torch.tensor([_INDEX.get(c, unknown) for c in text], dtype=torch.int64)


def to_text(ids: Tensor) -> str:
    """Ids (N,) back to characters."""
    return "".join(ALPHABET[int(i)] for i in ids)


def split_text(ids: Tensor, piece: int = 4096, every: int = 10) -> tuple[Tensor, Tensor]:
    """Every tenth piece of a text for testing, the rest for training.

    Pieces, because a text's end is often about other things than its beginning.

    Returns:
        ids for training and for testing, (N,) each.

    Raises:
        ValueError: if the text has fewer pieces than ``every``.
    """
    pieces = ids.split(piece)
    if len(pieces) < every:
        raise ValueError(f"need at least {every} pieces of {piece} characters, got {len(ids)}")
    test = [p for i, p in enumerate(pieces) if i % every == every - 1]
    return torch.cat([p for i, p in enumerate(pieces) if i % every != every - 1]), torch.cat(test)


def windows(ids: Tensor, length: int, count: int | None = None) -> Tensor:
    """Windows side by side, evenly spread over the text: (count, length).

    Raises:
        ValueError: if the text is too short for ``count`` windows, or for one.
    """
    whole = len(ids) // length
    count = whole if count is None else count
    if not 1 <= count <= whole:
        raise ValueError(f"{len(ids)} characters hold {whole} windows of {length}, asked {count}")
    table = ids[: whole * length].view(whole, length)
    return table[torch.linspace(0, whole - 1, count).round().long()]


def window_batches(
    ids: Tensor, length: int, batch_size: int, seed: int = 0
) -> Callable[[int], dict[str, Tensor]]:
    """Windows that start anywhere in the text, as a pure function of the step.

    Args:
        ids: (N,), int64, or any integer array that indexes alike (a memory map).
        length: T.

    Returns:
        ``f(step)`` giving {"tokens": (B, T)}.

    Raises:
        ValueError: if the text is shorter than a window.
    """
    if len(ids) < length or batch_size < 1:
        raise ValueError(
            f"need {length} ids or more and a batch size, got {len(ids)}, {batch_size}"
        )

    def batch(step: int) -> dict[str, Tensor]:
        first = torch.randint(
            len(ids) - length + 1, (batch_size,), generator=generator(seed, step)
        ).tolist()
        rows = np.stack([np.asarray(ids[i : i + length]) for i in first])
        return {"tokens": torch.from_numpy(rows.astype(np.int64))}

    return batch
