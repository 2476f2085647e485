"""Patches of real photographs that need no download: those inside scikit-image and scikit-learn.

Each photograph is cut once, at three quarters of its longer side: patches for training come from
the larger part, patches for testing from the other. Only then is it reduced (by 2 and by 4,
averages of pixels), so no test pixel enters a training patch at any scale. Reduced copies matter:
a natural scene shows the same statistics at every distance, and 32 pixels of a full-size photograph
are often nothing but blur.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.data.imageset import ImageSet, generator

COLOUR = ("astronaut", "cat", "coffee", "rocket", "hubble_deep_field", "immunohistochemistry")
GREY = ("camera", "brick", "grass", "gravel", "coins")
OTHERS = ("retina", "motorcycle", "china", "flower")
PHOTOGRAPHS = COLOUR + OTHERS + GREY
REDUCTIONS = (1, 2, 4)
TRAIN_PART = 0.75
LARGE = 900  # pixels; a photograph with a longer side starts at half size, else patches are blur


def _load(name: str) -> np.ndarray:
    """One photograph, (H, W) or (H, W, 3) uint8."""
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        return load_sample_image(f"{name}.jpg")
    from skimage import data

    if name == "motorcycle":
        return data.stereo_motorcycle()[0]
    return getattr(data, name)()


def _reduce(image: Tensor, factor: int) -> Tensor:
    """Average over factor x factor pixels, (3, H, W) uint8 -> (3, H // factor, W // factor)."""
    if factor == 1:
        return image
    return F.avg_pool2d(image[None].float(), factor)[0].round().to(torch.uint8)


@lru_cache(maxsize=2)
def _regions(split: str) -> tuple[tuple[Tensor, ...], ...]:
    """For each photograph, its train or test region at each reduction, (3, h, w) uint8."""
    regions = []
    for name in PHOTOGRAPHS:
        image = torch.from_numpy(np.array(_load(name)))
        image = image[..., None].expand(*image.shape, 3) if image.ndim == 2 else image[..., :3]
        image = image.permute(2, 0, 1).contiguous()  # (3, H, W)
        if max(image.shape) > LARGE:
            image = _reduce(image, 2)
        axis = 1 if image.shape[1] > image.shape[2] else 2
        length = image.shape[axis]
        cut = int(TRAIN_PART * length)
        start, stop = (0, cut) if split == "train" else (cut, length)
        region = image.narrow(axis, start, stop - start)
        regions.append(tuple(_reduce(region, factor) for factor in REDUCTIONS))
    return tuple(regions)


def photographs(
    size: int = 32, split: str = "train", seed: int = 0, count: int | None = None
) -> ImageSet:
    """Random square patches of 15 photographs; the label is the photograph.

    Photographs are equally frequent; within one, the reductions (1, 2, 4) that leave room for a
    patch are equally frequent, and all places in them.

    Args:
        size: side of a patch in pixels, 4 to 96.
        split: "train" or "test", from disjoint parts of each photograph.
        seed: picks the patches.
        count: number of patches; 8192 for training and 2048 for testing unless given.

    Raises:
        ValueError: if an argument is out of range.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if not 4 <= size <= 96:
        raise ValueError(f"size must be 4 to 96 (the test parts are narrow), got {size}")
    count = {"train": 8192, "test": 2048}[split] if count is None else count
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    rng = generator(seed, size, split == "test")
    labels = torch.randint(len(PHOTOGRAPHS), (count,), generator=rng)
    place = torch.rand(3, count, generator=rng)  # scale, row, column as fractions
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for label, pyramid in enumerate(_regions(split)):
        usable = [region for region in pyramid if min(region.shape[1:]) >= size]
        scale = (place[0] * len(usable)).long()
        for level, region in enumerate(usable):
            chosen = ((labels == label) & (scale == level)).nonzero()[:, 0]
            windows = region.unfold(1, size, 1).unfold(2, size, 1)  # a view, (3, h, w, S, S)
            rows = (place[1, chosen] * windows.shape[1]).long()
            columns = (place[2, chosen] * windows.shape[2]).long()
            images[chosen] = windows[:, rows, columns].transpose(0, 1)  # (m, 3, size, size)
    return ImageSet(
        images,
        labels,
        PHOTOGRAPHS,
        f"{split} patches of {len(PHOTOGRAPHS)} photographs of the scikit-image and scikit-learn "
        "packages",
    )
