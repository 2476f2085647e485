"""Real clips with captions: folders of frames, which any video tool can write.

One folder a clip, frames as ``*.jpg`` or ``*.png`` in the order of their names, and the caption in
``caption.txt``. No video decoder is needed to read them.

Shapes: B batch, T frames, H W pixels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from gentok.data.imageset import generator, to_float
from gentok.data.pictures import is_picture, read_picture
from gentok.data.read_ahead import ReadAhead


class ClipFolder(Dataset):
    """The first frames of each clip, cropped at the centre, and its caption.

    Raises:
        FileNotFoundError: if no sub-folder has a ``caption.txt``.
    """

    def __init__(self, folder: Path, height: int, width: int):
        self.places = sorted(path.parent for path in folder.glob("*/caption.txt"))
        self.height, self.width = height, width
        if not self.places:
            raise FileNotFoundError(f"no <clip>/caption.txt in {folder}")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, str]:
        """Frames (T, H, W, 3) uint8 and caption of (position, T).

        A clip that is too short holds its last frame.
        """
        position, count = key
        place = self.places[position]
        files = sorted(path for path in place.iterdir() if is_picture(path))
        if not files:
            raise ValueError(f"no frames (*.jpg, *.png) in {place}")
        files = [files[min(i, len(files) - 1)] for i in range(count)]
        size = (self.width, self.height)
        frames = np.stack([np.asarray(ImageOps.fit(read_picture(file), size)) for file in files])
        return frames, (place / "caption.txt").read_text("utf-8")


def clip_batches(
    folder: Path, batch_size: int, frames: tuple[int, ...], height: int, width: int, seed: int
) -> Callable[[int], tuple[Tensor, list[str]]]:
    """Clips of a folder of folders of frames, read ahead; a pure function of the step.

    Returns:
        ``f(step)`` giving video (B, T, 3, H, W) in [-1, 1] and B captions; T goes through
        ``frames`` step by step.

    Raises:
        FileNotFoundError: if no sub-folder has a ``caption.txt``.
    """
    clips = ClipFolder(folder, height, width)

    def keys(step: int) -> list[tuple[int, int]]:
        index = torch.randint(len(clips), (batch_size,), generator=generator(seed, step))
        return [(position, frames[step % len(frames)]) for position in index.tolist()]

    return ReadAhead(clips, keys, _together)


def _together(items: list[tuple[np.ndarray, str]]) -> tuple[Tensor, list[str]]:
    video = torch.from_numpy(np.stack([frames for frames, _ in items]))  # (B, T, H, W, 3)
    return to_float(video.permute(0, 1, 4, 2, 3)), [caption for _, caption in items]
