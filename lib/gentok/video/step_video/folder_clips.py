"""Real clips with captions: folders of frames, which any video tool can write.

One folder a clip, frames as ``*.jpg`` or ``*.png`` in the order of their names, and the caption in
``caption.txt``. A ranked pair for Video-DPO is a folder with the caption and two clips in it, in
``winner`` and ``loser``. No video decoder is needed to read them.

Shapes: B batch, T frames, H W pixels.
"""

import math
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gentok.data.files import read_text
from gentok.data.imageset import generator, to_float
from gentok.data.pictures import is_picture, picture_size, read_picture
from gentok.data.read_ahead import ReadAhead

TRIES = 10  # clips in a row that may be damaged
CLIP, PAIR = (".",), ("winner", "loser")  # where the frames of an item are, under its folder
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
Key = tuple[int, int, int, int]


class ClipFolder(Dataset):
    """T frames in a row of each clip from a random start, cropped at random, and its caption.

    Args:
        folder: holds a folder with a ``caption.txt`` for each clip.
        height, width: pixels of the frames that are given.
        seed: of starts and crops.
        takes: `CLIP`, or `PAIR` for two clips of one caption, cut alike.
        turned: give a clip that is nearer to one of them as width by height, or as a square of
            about as many pixels (multiples of 16); else all are cut to height by width.

    Raises:
        FileNotFoundError: if no sub-folder has a ``caption.txt``.
        ValueError: if one of them has no frames, or the first frame of one cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        height: int,
        width: int,
        seed: int = 0,
        takes: tuple[str, ...] = CLIP,
        turned: bool = False,
    ):
        self.places = sorted(path.parent for path in folder.glob("*/caption.txt"))
        if not self.places:
            raise FileNotFoundError(f"no <clip>/caption.txt in {folder}")
        self.folder, self.takes, self.seed = folder, takes, seed
        self.lengths = np.array([self._length(place) for place in self.places])
        side = max(1, round((height * width) ** 0.5 / 16)) * 16
        self.sizes = (
            [(width, height), (height, width), (side, side)] if turned else [(width, height)]
        )
        self.aspects = np.array([self._aspect(place) for place in self.places])

    def __len__(self) -> int:
        return len(self.places)

    def bucket(self, frames: int) -> np.ndarray:
        """Positions of the clips that are long enough.

        Raises:
            ValueError: if there is none.
        """
        found = np.flatnonzero(self.lengths >= frames)
        if not len(found):
            raise ValueError(
                f"no clip in {self.folder} has {frames} frames; the longest has "
                f"{self.lengths.max()}"
            )
        return found

    def caption(self, position: int) -> str:
        """The caption of a clip.

        Raises:
            ValueError: if its file is empty or not UTF-8.
        """
        path = self.places[position] / "caption.txt"
        words = read_text(path).strip()
        if not words:
            raise ValueError(f"{path} holds no caption")
        return words

    def __getitem__(self, key: Key) -> tuple[list[np.ndarray], str]:
        """Frames (T, H, W, 3) uint8 of each take, and the caption, of (position, T, step, row).

        A clip that cannot be read is named in a warning, and the next one of its shape takes its
        place.

        Raises:
            ValueError: if this clip and those behind it cannot be read: a frame or the caption is
                damaged, or frames of one clip differ in size.
        """
        position, count, step, row = key
        alike = self.aspects == self.aspects[position]
        enough = np.flatnonzero((self.lengths >= count) & alike)
        first = int(np.searchsorted(enough, position))
        for i in range(min(TRIES, len(enough))):
            at = int(enough[(first + i) % len(enough)])
            try:
                return self._item(at, count, step, row)
            except (OSError, ValueError) as error:
                fault = error
                warnings.warn(f"{error}; the next clip takes its place", stacklevel=2)
        raise ValueError(f"{i + 1} clips in a row cannot be read; the last: {fault}")

    def _item(self, position: int, count: int, step: int, row: int) -> tuple[list[np.ndarray], str]:
        place = self.places[position]
        rng = np.random.default_rng([self.seed, step, row])
        start = int(rng.integers(self.lengths[position] - count + 1))
        corner = rng.random(2)  # (x, y) in [0, 1)
        size = self.sizes[self.aspects[position]]
        takes = [
            self._read(_frames(place / take)[start : start + count], size, corner)
            for take in self.takes
        ]
        return takes, self.caption(position)

    def _aspect(self, place: Path) -> int:
        """Which of the sizes has the proportions that come nearest to a clip's."""
        if len(self.sizes) == 1:
            return 0
        width, height = picture_size(_frames(place / self.takes[0])[0])
        gaps = [abs(math.log(width / height * down / across)) for across, down in self.sizes]
        return gaps.index(min(gaps))

    def _length(self, place: Path) -> int:
        count = min(len(_frames(place / take)) for take in self.takes)
        if not count:
            raise ValueError(f"no frames (*.jpg, *.png) in {place}")
        return count

    def _read(self, files: list[Path], wanted: tuple[int, int], corner: np.ndarray) -> np.ndarray:
        pictures = [read_picture(file) for file in files]
        sizes = {picture.size for picture in pictures}
        if len(sizes) > 1:
            raise ValueError(f"frames in {files[0].parent} differ in size: {sorted(sizes)}")
        box = window(sizes.pop(), wanted, corner)
        return np.stack([np.asarray(picture.resize(wanted, box=box)) for picture in pictures])


def window(size: tuple[int, int], wanted: tuple[int, int], corner: np.ndarray) -> Box:
    """The largest window of a picture with the wanted proportions.

    Args:
        size: (width, height) of the picture; ``wanted``: of what it becomes.
        corner: where the window lies in the room it has, (x, y) in [0, 1].
    """
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, top = corner[0] * (size[0] - width), corner[1] * (size[1] - height)
    return (left, top, left + width, top + height)


def clip_batches(
    folder: Path,
    batch_size: int,
    frames: tuple[int, ...],
    height: int,
    width: int,
    seed: int,
    pictures: int = 0,
    takes: tuple[str, ...] = CLIP,
    turned: bool = False,
) -> ReadAhead:
    """Clips of a folder of folders of frames, read ahead; a pure function of the step.

    Args:
        folder, height, width, seed, takes, turned: see `ClipFolder`. All clips of a batch have one
            shape: that of a clip which is drawn first.
        batch_size: B; ``pictures``: B of batches of single frames, if above 0.
        frames: T of the batches, in turn. A batch is drawn from the clips that are long enough.

    Returns:
        ``f(step)`` giving a tuple: for each take a video (B, T, 3, H, W) in [-1, 1], then the B
        captions.

    Raises:
        FileNotFoundError: if no sub-folder has a ``caption.txt``.
        ValueError: if no clip is long enough for one of ``frames``.
    """
    clips = ClipFolder(folder, height, width, seed, takes, turned)
    buckets = {count: clips.bucket(count) for count in frames}

    def keys(step: int) -> list[Key]:
        count = frames[step % len(frames)]
        rows = pictures if count == 1 and pictures else batch_size
        rng, bucket = generator(seed, step), buckets[count]
        if turned:
            first = bucket[int(torch.randint(len(bucket), (1,), generator=rng))]
            bucket = bucket[clips.aspects[bucket] == clips.aspects[first]]
        drawn = torch.randint(len(bucket), (rows,), generator=rng)
        index = bucket[drawn.numpy()].tolist()
        return [(position, count, step, row) for row, position in enumerate(index)]

    return ReadAhead(clips, keys, _together)


def _frames(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if is_picture(path)) if place.is_dir() else []


def _together(items: list[tuple[list[np.ndarray], str]]) -> tuple[Tensor | list[str], ...]:
    takes = zip(*(takes for takes, _ in items), strict=True)
    videos = [torch.from_numpy(np.stack(rows)).permute(0, 1, 4, 2, 3) for rows in takes]
    return (*(to_float(video) for video in videos), [caption for _, caption in items])
