"""Clips without captions: folders of frames, which any video tool can write.

One folder a clip, frames as ``*.jpg`` or ``*.png`` in the order of their names. BAIR's clips of a
robot that pushes things (Ebert et al. 2017) fit in this way: 30 frames of 64 x 64 pixels a folder.

Shapes: B batch, T frames, H = W = size pixels.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from gentok.data.imageset import generator
from gentok.data.pictures import is_picture, read_picture
from gentok.data.read_ahead import ReadAhead

TRIES = 10  # clips in a row that may be damaged


class FrameFolder(Dataset):
    """T frames in a row of each clip, from a random start, the middle square scaled to size.

    Args:
        folder: holds a folder of frames for each clip; shorter clips are passed over.
        size: pixels of a side.
        frames: T.
        seed: of the starts.

    Raises:
        FileNotFoundError: if no clip has so many frames.
    """

    def __init__(self, folder: Path, size: int, frames: int, seed: int = 0):
        self.size, self.frames, self.seed = size, frames, seed
        inside = sorted(path for path in Path(folder).iterdir() if path.is_dir())
        self.clips = [files for path in inside if len(files := _pictures(path)) >= frames]
        if not self.clips:
            raise FileNotFoundError(f"no <clip> of {frames} frames (*.jpg, *.png) in {folder}")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int, int]) -> np.ndarray:
        """Frames (T, size, size, 3) uint8 of (position, step, row of the batch).

        A clip that cannot be read is named in a warning, and the next one takes its place.

        Raises:
            ValueError: if this clip and the nine behind it cannot be read.
        """
        position, step, row = key
        rng = np.random.default_rng([self.seed, step, row])
        for i in range(min(TRIES, len(self))):
            files = self.clips[(position + i) % len(self)]
            start = int(rng.integers(len(files) - self.frames + 1))
            try:
                return self._read(files[start : start + self.frames])
            except (OSError, ValueError) as error:
                fault = error
                warnings.warn(f"{error}; the next clip takes its place", stacklevel=2)
        raise ValueError(f"{i + 1} clips in a row cannot be read; the last: {fault}")

    def _read(self, files: list[Path]) -> np.ndarray:
        side = (self.size, self.size)
        return np.stack([np.asarray(ImageOps.fit(read_picture(file), side)) for file in files])


def frame_batches(folder: Path, size: int, frames: int, batch_size: int, seed: int) -> ReadAhead:
    """Clips drawn from a whole folder, a pure function of the step.

    Args:
        folder, size, frames: see `FrameFolder`.
        batch_size: B.
        seed: of the order and the starts.

    Returns:
        ``f(step)`` giving ``{"video": (B, T, 3, size, size) uint8}``.

    Raises:
        FileNotFoundError: as `FrameFolder`.
    """
    clips = FrameFolder(folder, size, frames, seed)

    def keys(step: int) -> list[tuple[int, int, int]]:
        drawn = torch.randint(len(clips), (batch_size,), generator=generator(seed, step))
        return [(position, step, row) for row, position in enumerate(drawn.tolist())]

    return ReadAhead(clips, keys, _together)


def first_frames(folder: Path, size: int, frames: int, count: int) -> Tensor:
    """The beginnings of up to ``count`` clips by the alphabet, (n, T, 3, size, size) uint8.

    Raises:
        FileNotFoundError: as `FrameFolder`.
    """
    clips = FrameFolder(folder, size, frames)
    return _together([clips._read(files[:frames]) for files in clips.clips[:count]])["video"]


def _pictures(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if is_picture(path))


def _together(items: list[np.ndarray]) -> dict[str, Tensor]:
    return {"video": torch.from_numpy(np.stack(items)).movedim(-1, 2)}
