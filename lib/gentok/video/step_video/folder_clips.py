"""Real clips with captions: folders of frames, which any video tool can write.

One folder a clip, frames as ``*.jpg`` or ``*.png`` in the order of their names, and the caption in
``caption.txt``. No video decoder is needed to read them.

Shapes: B batch, T frames, H W pixels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gentok.data.imageset import generator, to_float


def clip_batches(
    folder: Path, batch_size: int, frames: tuple[int, ...], height: int, width: int, seed: int
) -> Callable[[int], tuple[Tensor, list[str]]]:
    """Clips of a folder of folders of frames; a pure function of the step.

    Returns:
        ``f(step)`` giving video (B, T, 3, H, W) in [-1, 1] and B captions; T goes through
        ``frames`` step by step, a clip that is too short holds its last frame.

    Raises:
        FileNotFoundError: if no sub-folder has a ``caption.txt``.
    """
    places = sorted(path.parent for path in folder.glob("*/caption.txt"))
    if not places:
        raise FileNotFoundError(f"no <clip>/caption.txt in {folder}")

    def batch(step: int) -> tuple[Tensor, list[str]]:
        count = frames[step % len(frames)]
        index = torch.randint(len(places), (batch_size,), generator=generator(seed, step))
        chosen = [places[int(i)] for i in index]
        video = torch.stack([_read(place, count, height, width) for place in chosen])
        return to_float(video), [(place / "caption.txt").read_text("utf-8") for place in chosen]

    return batch


def _read(place: Path, count: int, height: int, width: int) -> Tensor:
    """The first ``count`` frames of a clip, cropped at the centre: (T, 3, H, W), uint8."""
    files = sorted(p for p in place.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise FileNotFoundError(f"no frames (*.jpg, *.png) in {place}")
    files = [files[min(i, len(files) - 1)] for i in range(count)]
    frames = []
    for file in files:
        with Image.open(file) as picture:
            frames.append(np.asarray(ImageOps.fit(picture.convert("RGB"), (width, height))))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
