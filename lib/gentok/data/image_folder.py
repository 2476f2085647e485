"""A folder of pictures, one sub-folder a class, as a stream of batches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from gentok.data.imageset import generator, to_float


def folder_batches(
    folder: Path, size: int, batch_size: int, seed: int
) -> tuple[Callable[[int], dict[str, Tensor]], int]:
    """Batches of pictures, scaled and cropped at the centre to a square.

    Args:
        folder: holds ``<class>/*.jpg`` or other image files (ImageNet's layout).
        size: pixels of a side.
        batch_size: B.
        seed: of the order.

    Returns:
        batch: a pure function of the step: ``image`` (B, 3, size, size) in [-1, 1] and ``label``
            (B,) int64.
        num_classes: number of sub-folders.
    """
    import datasets  # slow to import, and needed only here

    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")

    def batch(step: int) -> dict[str, Tensor]:
        index = torch.randint(len(rows), (batch_size,), generator=generator(seed, step))
        chosen = [rows[int(i)] for i in index]
        pictures = [ImageOps.fit(row["image"].convert("RGB"), (size, size)) for row in chosen]
        arrays = torch.from_numpy(np.stack([np.asarray(p) for p in pictures]))  # (B, H, W, 3)
        label = torch.tensor([row["label"] for row in chosen])
        return {"image": to_float(arrays.permute(0, 3, 1, 2)), "label": label}

    return batch, rows.features["label"].num_classes
