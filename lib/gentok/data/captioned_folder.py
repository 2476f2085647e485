"""A folder of pictures with captions, as a stream of batches.

Beside ``<name>.jpg`` stands ``<name>.txt``, whose first line that is not empty is the caption.
Published text-to-image sets come as such pairs, or are unpacked to them.

Shapes: B batch.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from gentok.data.files import read_text
from gentok.data.imageset import generator, to_float
from gentok.data.pictures import is_picture, read_picture
from gentok.data.read_ahead import ReadAhead

TRIES = 10  # pairs in a row that may be damaged


class CaptionedFolder(Dataset):
    """Pictures anywhere below a folder that have a caption beside them.

    A pair that cannot be read is named in a warning, and the next one takes its place.

    Args:
        folder: is searched with all that is below it.
        size: pixels of a side: the short side is scaled to it, the middle is cut out.

    Raises:
        FileNotFoundError: if there is no pair.
    """

    def __init__(self, folder: str | Path, size: int):
        self.folder, self.size = Path(folder), size
        found = sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if is_picture(path) and path.with_suffix(".txt").is_file()
        )
        if not found:
            raise FileNotFoundError(f"no picture with a caption (a.jpg and a.txt) in {folder}")
        self.files = np.array(found)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> tuple[np.ndarray, str]:
        """The pixels (size, size, 3) uint8 and the caption.

        Raises:
            ValueError: if this pair and the nine behind it cannot be read.
        """
        for i in range(min(TRIES, len(self))):
            path = self.folder / str(self.files[(position + i) % len(self)])
            try:
                picture = ImageOps.fit(read_picture(path), (self.size, self.size))
                return np.asarray(picture), first_line(path.with_suffix(".txt"))
            except (OSError, ValueError) as error:
                fault = error
                warnings.warn(f"{error}; the next pair takes its place", stacklevel=2)
        raise ValueError(f"{i + 1} pairs in a row cannot be read; the last: {fault}")


def first_line(path: Path) -> str:
    """The caption of a file: its first line that is not empty.

    Raises:
        ValueError: if there is none, or the file is no text.
    """
    for line in read_text(path).splitlines():
        if words := " ".join(line.split()):
            return words
    raise ValueError(f"{path} holds no caption")


def captioned_batches(
    folder: str | Path, size: int, batch_size: int, seed: int, workers: int | None = None
) -> ReadAhead:
    """Batches of square pictures and captions, each pair drawn from the whole folder.

    Args:
        folder: holds pairs of files.
        size: pixels of a side.
        batch_size: B.
        seed: of the order.
        workers: processes that read ahead; by default none for a small folder, else by the cores.

    Returns:
        a pure function of the step: ``image`` (B, 3, size, size) in [-1, 1] and ``text``, a list of
        B strings.

    Raises:
        FileNotFoundError: if there is no pair.
    """
    pairs = CaptionedFolder(folder, size)

    def keys(step: int) -> list[int]:
        return torch.randint(len(pairs), (batch_size,), generator=generator(seed, step)).tolist()

    return ReadAhead(pairs, keys, _together, workers)


def _together(items: list[tuple[np.ndarray, str]]) -> dict[str, Tensor | list[str]]:
    """A batch of pictures and their captions."""
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in items]))  # (B, H, W, 3)
    return {
        "image": to_float(pixels.permute(0, 3, 1, 2)),
        "text": [caption for _, caption in items],
    }
