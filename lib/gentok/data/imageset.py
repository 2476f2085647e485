"""Labelled images in memory, and batches that are a pure function of the step number.

A batch source is any callable ``batches(step) -> dict``. Because it depends on nothing but its seed
and the step, a run that stops at step 700 and resumes there sees the very batches it would have
seen, and several processes can each compute the batch and keep their share: no state is stored.

Shapes: N items, B batch, H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor


def generator(*keys: int) -> torch.Generator:
    """A CPU random generator seeded by a tuple of non-negative integers.

    NumPy's ``SeedSequence`` mixes the keys, so (0, 1) and (1, 0), or neighbouring steps, give
    unrelated streams.

    Raises:
        ValueError: if a key is negative.
    """
    if any(key < 0 for key in keys):
        raise ValueError(f"seeds and steps must be 0 or more, got {keys}")
    # The number of keys comes first, since SeedSequence takes (1,) and (1, 0) for the same.
    state = np.random.SeedSequence([len(keys), *keys]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))  # fits a signed 64-bit integer


def to_float(images: Tensor) -> Tensor:
    """Bytes 0..255 to float32 in [-1, 1]; any shape."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to bytes 0..255, clipped and rounded; any shape."""
    return images.add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class ImageSet:
    """Labelled RGB images.

    Attributes:
        images: (N, 3, H, W), uint8.
        labels: (N,), int64, each in [0, len(class_names)).
        class_names: one name a label.
        source: in words, what the images are and where they come from.

    Raises:
        ValueError: if a tensor has another shape or type, or lengths differ.
    """

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            found = f"{tuple(images.shape)} {images.dtype}"
            raise ValueError(f"images must be (N, 3, H, W) torch.uint8, got {found}")
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            found = f"{tuple(labels.shape)} {labels.dtype}"
            raise ValueError(f"labels must be ({len(images)},) torch.int64, got {found}")

    def __len__(self) -> int:
        return len(self.images)

    def floats(self) -> Tensor:
        """All images as float32 in [-1, 1], (N, 3, H, W)."""
        return to_float(self.images)

    def subset(self, index: Tensor | slice) -> "ImageSet":
        """The items that ``index`` (a slice, or positions (M,), or a mask (N,)) selects."""
        return replace(self, images=self.images[index], labels=self.labels[index])

    def split(self, fraction: float = 0.8, seed: int = 0) -> tuple["ImageSet", "ImageSet"]:
        """Two disjoint sets, of about ``fraction`` and ``1 - fraction`` of the items, shuffled.

        Raises:
            ValueError: if ``fraction`` is not in (0, 1) or one side would be empty.
        """
        cut = round(fraction * len(self))
        if not 0 < fraction < 1 or not 0 < cut < len(self):
            raise ValueError(f"fraction must leave items on both sides, got {fraction}")
        order = torch.randperm(len(self), generator=generator(seed))
        return self.subset(order[:cut]), self.subset(order[cut:])


class _Permutations:
    """The order of each epoch; the last two are kept, since a batch may straddle two epochs.

    A class and no cached function, so that it can be sent to another process.
    """

    def __init__(self, seed: int, total: int):
        self.seed, self.total = seed, total
        self.kept: dict[int, Tensor] = {}

    def __call__(self, epoch: int) -> Tensor:
        if epoch not in self.kept:
            order = torch.randperm(self.total, generator=generator(self.seed, epoch))
            self.kept = dict([*list(self.kept.items())[-1:], (epoch, order)])
        return self.kept[epoch]

    def __getstate__(self) -> dict:
        return {"seed": self.seed, "total": self.total, "kept": {}}


def batches(
    source: ImageSet | dict[str, Tensor], batch_size: int, seed: int = 0, flip: bool = False
) -> Callable[[int], dict[str, Tensor]]:
    """Endless shuffled batches as a pure function of the step.

    Step s holds the places s*B to (s+1)*B - 1 of one endless row of items: a permutation of all N
    items (epoch 0), then another (epoch 1), and so on. So all batches have B items, and every epoch
    visits each item exactly once even where B does not divide N.

    Args:
        source: an ImageSet (keys "image" and "label") or a dict of tensors of equal length N.
        batch_size: B.
        seed: picks the permutations.
        flip: mirror each image left-right with probability 1/2. Never for digits or text.

    Returns:
        ``f(step)`` giving a dict of tensors (B, ...); uint8 tensors of four axes are images and
        come as float32 in [-1, 1].

    Raises:
        ValueError: if ``batch_size`` < 1, the source is empty, its lengths differ, or step < 0.
    """
    if isinstance(source, ImageSet):
        source = {"image": source.images, "label": source.labels}
    lengths = {name: len(tensor) for name, tensor in source.items()}
    if batch_size < 1 or not lengths or min(lengths.values()) < 1:
        raise ValueError(f"need batch_size >= 1 and items, got {batch_size} and lengths {lengths}")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"source must hold tensors of equal length, got {lengths}")
    total = next(iter(lengths.values()))

    permutation = _Permutations(seed, total)

    def batch(step: int) -> dict[str, Tensor]:
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        first, last = step * batch_size, (step + 1) * batch_size  # places in the endless row
        parts = []
        for epoch in range(first // total, (last - 1) // total + 1):
            start = epoch * total
            parts.append(permutation(epoch)[max(first - start, 0) : last - start])
        index = torch.cat(parts)  # (B,)
        mirror = torch.rand(batch_size, generator=generator(seed, step, 1)) < 0.5
        out = {}
        for name, tensor in source.items():
            items = tensor[index]
            if items.dtype == torch.uint8 and items.ndim == 4:
                items = to_float(items)
                if flip:
                    items = torch.where(mirror[:, None, None, None], items.flip(-1), items)
            out[name] = items
        return out

    return batch
