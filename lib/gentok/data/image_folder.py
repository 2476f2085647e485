"""A folder of pictures, one sub-folder a class, as a stream of batches.

Shapes: B batch.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from gentok.data.imageset import generator, to_float
from gentok.data.pictures import is_picture, read_picture
from gentok.data.read_ahead import ReadAhead

Crop = Callable[[Image.Image, int, np.random.Generator], Image.Image]
TRIES = 10  # pictures in a row that may be damaged


def centre_crop(picture: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """The largest square in the middle, scaled to ``size`` pixels a side."""
    return ImageOps.fit(picture, (size, size))


def shifted_crop(picture: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A square of ``size`` from anywhere in the middle square scaled to 1.5 times as much."""
    wide = size * 3 // 2
    left, top = (int(corner) for corner in rng.integers(wide - size + 1, size=2))
    return ImageOps.fit(picture, (wide, wide)).crop((left, top, left + size, top + size))


class ImageFolder(Dataset):
    """Pictures under ``<folder>/<class>/``, each with its class; labels by the classes' alphabet.

    A picture that cannot be read is named in a warning, and the next one takes its place.

    Args:
        folder: holds a sub-folder a class. Files that are no pictures, and what begins with a dot,
            are passed over.
        size: pixels of a side.
        seed: of ``crop``'s random numbers.
        crop: makes a square of ``size`` from a picture.

    Raises:
        FileNotFoundError: if there is no class, or a class without a picture.
    """

    def __init__(self, folder: Path, size: int, seed: int = 0, crop: Crop = centre_crop):
        self.folder, self.size, self.seed, self.crop = Path(folder), size, seed, crop
        self.class_names = tuple(sorted(_classes(self.folder)))
        found = [_pictures(self.folder / name) for name in self.class_names]
        # An array and no list: workers that touch a list's objects copy its memory bit by bit.
        self.files = np.array([file for files in found for file in files])
        self.labels = np.repeat(np.arange(len(found)), [len(files) for files in found])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[np.ndarray, int]:
        """The pixels (size, size, 3) uint8 and the label of (position, step, row of the batch).

        Raises:
            ValueError: if this picture and the nine behind it cannot be read.
        """
        position, step, row = key
        picture, label = self._readable(position)
        rng = np.random.default_rng([self.seed, step, row])
        return np.asarray(self.crop(picture, self.size, rng)), label

    def _readable(self, position: int) -> tuple[Image.Image, int]:
        for i in range(min(TRIES, len(self))):
            at = (position + i) % len(self)
            path = self.folder / self.class_names[self.labels[at]] / str(self.files[at])
            try:
                return read_picture(path), int(self.labels[at])
            except (OSError, ValueError) as error:
                fault = error
                warnings.warn(f"{error}; the next picture takes its place", stacklevel=2)
        raise ValueError(f"{i + 1} pictures in a row cannot be read; the last: {fault}")


def folder_batches(
    folder: Path,
    size: int,
    batch_size: int,
    seed: int,
    crop: Crop = centre_crop,
    repeats: int = 1,
    workers: int | None = None,
) -> tuple[ReadAhead, int]:
    """Batches of square pictures, each picture drawn from the whole folder.

    Args:
        folder: holds ``<class>/*.jpg`` or other image files (ImageNet's layout).
        size: pixels of a side.
        batch_size: B.
        seed: of the order.
        crop: makes a square of a picture; by default the middle.
        repeats: rows of a batch that show one picture, each by a crop of its own (repeated
            augmentation, Hoffer et al. 2020).
        workers: processes that read ahead; by default none for a small folder, else by the cores.

    Returns:
        batch: a pure function of the step: ``image`` (B, 3, size, size) in [-1, 1] and ``label``
            (B,) int64. In training on several processes each reads its own rows alone.
        num_classes: number of sub-folders.

    Raises:
        FileNotFoundError: if there is no class, or a class without a picture.
        ValueError: if ``repeats`` is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more, got {repeats}")
    pictures = ImageFolder(folder, size, seed, crop)

    def keys(step: int) -> list[tuple[int, int, int]]:
        different = -(-batch_size // repeats)
        index = torch.randint(len(pictures), (different,), generator=generator(seed, step))
        shown = index.repeat(repeats)[:batch_size]  # far apart: processes share out rows in order
        return [(position, step, row) for row, position in enumerate(shown.tolist())]

    return ReadAhead(pictures, keys, _together, workers), len(pictures.class_names)


def _together(items: list[tuple[np.ndarray, int]]) -> dict[str, Tensor]:
    """A batch of pictures and their labels."""
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in items]))  # (B, H, W, 3)
    label = torch.tensor([label for _, label in items])
    return {"image": to_float(pixels.permute(0, 3, 1, 2)), "label": label}


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    names = [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    if not names:
        raise FileNotFoundError(f"no <class>/*.jpg in {folder}: it has no sub-folder")
    return names


def _pictures(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if is_picture(path))
    if not names:
        raise FileNotFoundError(f"no pictures (*.jpg, *.png and the like) in {folder}")
    return names
