"""Videos as folders of frames, ``<class>/<clip>/*.jpg``, cropped as ViTok's training does.

Shapes: B batch, T frames, H = W = size pixels.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from gentok.data import to_float
from gentok.data.pictures import read_picture
from gentok.data.read_ahead import ReadAhead

STRIDE = 2  # every second frame
ENDINGS = (".jpg", ".jpeg", ".png")


class VideoFolder(Dataset):
    """A run of frames of each clip, at a random place, as squares.

    Args:
        folder: holds a sub-folder a class, and in each a folder of frames a clip, in the order of
            their names.
        frames: T; clips with fewer than 2 T - 1 frames are passed over.
        size: H = W: the shorter side is scaled to it, a random square cut, half of them mirrored.
        seed: of places.

    Raises:
        FileNotFoundError: if no clip is long enough.
    """

    def __init__(self, folder: Path, frames: int, size: int, seed: int = 0):
        self.frames, self.size, self.seed = frames, size, seed
        self.span = STRIDE * (frames - 1) + 1
        self.class_names = tuple(path.name for path in _folders(Path(folder)))
        found = [
            (label, _frames(clip))
            for label, name in enumerate(self.class_names)
            for clip in _folders(Path(folder) / name)
        ]
        self.clips = [(label, files) for label, files in found if len(files) >= self.span]
        if not self.clips:
            raise FileNotFoundError(f"{folder}: no clip of {self.span} frames or more")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[np.ndarray, int]:
        """Frames (T, H, W, 3) uint8 and the label of (position, step, row of the batch)."""
        position, step, row = key
        rng = np.random.default_rng([self.seed, step, row])
        label, files = self.clips[position]
        first = int(rng.integers(len(files) - self.span + 1))
        pictures = [read_picture(path) for path in files[first : first + self.span : STRIDE]]
        place, mirrored = rng.random(2), rng.random() < 0.5
        squares = [_square(picture, self.size, place, mirrored) for picture in pictures]
        return np.stack(squares), label


def video_batches(
    folder: Path, frames: int, size: int, batch_size: int, seed: int, workers: int | None = None
) -> tuple[ReadAhead, int]:
    """Batches of videos, a pure function of the step, and the number of classes.

    A batch holds ``video`` (B, T, 3, H, W) in [-1, 1] and ``label`` (B,) int64.

    Raises:
        FileNotFoundError: if no clip is long enough.
    """
    clips = VideoFolder(folder, frames, size, seed)
    keys = partial(_keys, len(clips), batch_size, seed)
    return ReadAhead(clips, keys, _collate, workers), len(clips.class_names)


def _keys(clips: int, rows: int, seed: int, step: int) -> list[tuple[int, int, int]]:
    """Which clip each row of a step shows: epochs of permutations, one after the other."""
    keys = []
    for row in range(rows):
        epoch, place = divmod(step * rows + row, clips)
        order = np.random.default_rng([seed, epoch]).permutation(clips)
        keys.append((int(order[place]), step, row))
    return keys


def _collate(items: list[tuple[np.ndarray, int]]) -> dict[str, Tensor]:
    videos, labels = zip(*items, strict=True)
    video = torch.from_numpy(np.stack(videos)).movedim(-1, 2)  # (B, T, 3, H, W)
    return {"video": to_float(video), "label": torch.tensor(labels)}


def _square(picture: Image.Image, size: int, place: np.ndarray, mirrored: bool) -> np.ndarray:
    """A square at a place in [0, 1)^2 of the picture scaled to ``size`` on its shorter side."""
    scale = size / min(picture.size)
    wide, high = (max(size, round(side * scale)) for side in picture.size)
    left, top = (int(p * (side - size + 1)) for p, side in zip(place, (wide, high), strict=True))
    scaled = picture.resize((wide, high), Image.Resampling.BILINEAR)
    square = np.asarray(scaled.crop((left, top, left + size, top + size)))
    return square[:, ::-1] if mirrored else square


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _frames(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
