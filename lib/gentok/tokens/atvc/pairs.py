"""CLEVR-ATVC and Fruit-ATVC: an annotation file and two folders of pictures.

The layout is that of the authors' download page::

    CLEVR-ATVC/train2023/tain_annotation.json    (so spelt there; train_annotation.json is read too)
    CLEVR-ATVC/train2023/V/                      pictures before
    CLEVR-ATVC/train2023/M/                      pictures after
    CLEVR-ATVC/test2023/...

What the annotation file holds inside could not be seen. Read here is a list of entries with the
paper's letters: ``T`` the order, ``V`` a file of the folder V, ``M`` one of the folder M or null
where the order is refused, ``A`` the answer. Rename the keys of another file once.

Shapes: B batch, S pixels a side.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from gentok.data.files import reason
from gentok.data.folder import find, missing
from gentok.data.imageset import generator, to_float
from gentok.data.pictures import read_picture

FOLDERS = {"clevr-atvc": "CLEVR-ATVC", "fruit-atvc": "Fruit-ATVC"}
KEYS = ("T", "V", "M", "A")
Read = Callable[[list[str], int], Tensor]  # texts and a length to numbers (n, length)


@dataclass(frozen=True)
class Entry:
    """One exchange: order, picture before, picture after (None where refused), answer."""

    order: str
    before: Path
    after: Path | None
    answer: str


def read_pairs(name: str, split: str = "train", folder: Path | None = None) -> list[Entry]:
    """The entries of a set.

    Args:
        name: ``"clevr-atvc"`` or ``"fruit-atvc"``.
        split: ``"train"`` or ``"test"``.
        folder: that holds ``train2023`` and ``test2023``; looked for under GENTOK_DATA if None.

    Raises:
        FileNotFoundError: if folder, annotation or a picture is absent; names it.
        ValueError: if the set is unknown or an entry cannot be read; names file and entry.
    """
    if name not in FOLDERS:
        raise ValueError(f"unknown set {name!r}; accepted: {', '.join(FOLDERS)}")
    if folder is None and (folder := find(FOLDERS[name])) is None:
        raise missing(FOLDERS[name], FOLDERS[name])
    base = Path(folder) / f"{split}2023"
    path = next((base / file for file in _annotations(split) if (base / file).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no {' or '.join(_annotations(split))} in {base}")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as JSON: {reason(error)}") from error
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} must hold a list of entries, got {type(rows).__name__}")
    return [_entry(row, base, f"{path}, entry {number}") for number, row in enumerate(rows)]


def _annotations(split: str) -> tuple[str, ...]:
    misspelt = ("tain_annotation.json",) if split == "train" else ()
    return (f"{split}_annotation.json", *misspelt)


def _entry(row: Any, base: Path, where: str) -> Entry:
    if not isinstance(row, dict) or not set(KEYS) <= set(row):
        raise ValueError(f"{where} must have the keys {', '.join(KEYS)}, got {row!r:.80}")
    for key in KEYS:
        if not (
            isinstance(row[key], str) and row[key].strip() or (key == "M" and row[key] is None)
        ):
            raise ValueError(f"{where}: {key} must be a text, got {row[key]!r:.80}")
    files = {}
    for key in ("V", "M"):
        files[key] = None if row[key] is None else base / key / row[key]
        if files[key] is None:
            continue
        if (base / key).resolve() not in files[key].resolve().parents:
            raise ValueError(f"{where}: {key} leaves its folder: {row[key]!r}")
        if not files[key].is_file():
            raise FileNotFoundError(f"{where}: no picture {files[key]}")
    return Entry(row["T"].strip(), files["V"], files["M"], row["A"].strip())


class PairBatches:
    """Batches as a pure function of the step.

    Both pictures of a pair are scaled and cropped alike, from the middle: a random crop would have
    to be one for both.

    Args:
        entries: as `read_pairs` gives them.
        size: S; ``batch_size``: B; ``seed``: of the order.
        read: texts as numbers.
        lengths: of orders and answers.
    """

    def __init__(
        self,
        entries: list[Entry],
        size: int,
        batch_size: int,
        seed: int,
        read: Read,
        lengths: tuple[int, int],
    ):
        self.entries, self.size, self.batch_size, self.seed = entries, size, batch_size, seed
        self.read, self.lengths = read, lengths

    def __call__(self, step: int) -> dict[str, Tensor]:
        """``before`` and ``after`` (B, 3, S, S) in [-1, 1], ``order``, ``answer``, ``obeyed``.

        Of a refused order ``after`` is the picture before.
        """
        rng = generator(self.seed, step, 53)
        chosen = torch.randint(len(self.entries), (self.batch_size,), generator=rng).tolist()
        picked = [self.entries[i] for i in chosen]
        return {
            "before": torch.stack([self.pixels(entry.before) for entry in picked]),
            "after": torch.stack([self.pixels(entry.after or entry.before) for entry in picked]),
            "order": self.read([entry.order for entry in picked], self.lengths[0]),
            "answer": self.read([entry.answer for entry in picked], self.lengths[1]),
            "obeyed": torch.tensor([entry.after is not None for entry in picked]),
        }

    def pixels(self, path: Path) -> Tensor:
        """The middle square of a picture, (3, S, S) in [-1, 1]."""
        square = ImageOps.fit(read_picture(path), (self.size, self.size))
        return to_float(torch.from_numpy(np.array(square)).permute(2, 0, 1))


def clip_words(texts: list[str], length: int) -> Tensor:
    """Texts in CLIP's byte pairs, lower-cased, the end appended, zeros behind: (n, length).

    The tokenizer is looked for as ``clip/`` under GENTOK_DATA, as the hub keeps it. The base has no
    start word. Its end has the id 49,407; here it changes places with id 2, by which a text ends
    everywhere in this package.

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if a text is too long.
    """
    from transformers import CLIPTokenizer  # slow to import, and needed only here

    if (folder := find("clip")) is None:
        raise missing("CLIP's tokenizer", "clip", "openai/clip-vit-base-patch32 on the hub")
    words = CLIPTokenizer.from_pretrained(folder)
    rows = torch.zeros(len(texts), length, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        ids = words(text.lower(), add_special_tokens=False)["input_ids"]
        ids = [{2: words.eos_token_id, words.eos_token_id: 2}.get(i, i) for i in ids] + [2]
        if len(ids) > length:
            raise ValueError(f"texts: at most {length} places, got {len(ids)} for {text!r}")
        row[: len(ids)] = torch.tensor(ids)
    return rows
