"""Random crops of a folder of images, as classifiers are trained on ImageNet.

Shapes: B batch, H W pixels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gentok.data import generator, to_float

Batches = Callable[[int], dict[str, Tensor]]


def folder_crops(folder: Path, size: int, batch_size: int, seed: int) -> tuple[Batches, int]:
    """Batches of a folder of images; a pure function of the step.

    Each image is cut at random (8 % to 100 % of its area, aspect ratio 3/4 to 4/3), resized to
    ``size`` and mirrored with probability 1/2.

    Returns:
        the batches, and the number of classes.
    """
    import datasets  # slow to import, and needed only here

    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")

    def batch(step: int) -> dict[str, Tensor]:
        index = torch.randint(len(rows), (batch_size,), generator=generator(seed, step))
        rng = np.random.default_rng([seed, step, 13])
        chosen = [rows[int(i)] for i in index]
        arrays = [np.asarray(random_crop(row["image"], size, rng)) for row in chosen]
        image = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)  # (B, 3, H, W)
        return {"image": to_float(image), "label": torch.tensor([row["label"] for row in chosen])}

    return batch, rows.features["label"].num_classes


def random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random part of an image as a square of ``size`` pixels, perhaps mirrored."""
    image = image.convert("RGB")
    area = image.width * image.height * rng.uniform(0.08, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width = min(image.width, max(1, round((area * aspect) ** 0.5)))
    height = min(image.height, max(1, round((area / aspect) ** 0.5)))
    x, y = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    part = image.resize(
        (size, size), Image.Resampling.BICUBIC, (x, y, x + width, y + height), reducing_gap=2.0
    )
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part
