"""Read shapes, colours and boxes off pictures, also of objects that lie on other objects.

`gentok.measure.detect` takes what differs from the floor for one object, so that a disc on a square
is lost in it. Where no colour comes twice in a picture, colour alone separates the objects: pixels
go to the nearest hue of a palette, the largest connected part of a hue is an object, its extent is
the box. A triangle is thin and heavy below; a square fills its box, a disc does not.

Shapes: n pictures, C colours, H W pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from gentok.data.graph_scenes import LABELS, PALETTE
from gentok.data.relations import within
from gentok.data.world import COLOURS
from gentok.measure.detect import to_unit

FAINT = 0.10  # distance from grey, RGB in [0, 1], below which a pixel is floor
CORE = np.ones((3, 3), dtype=bool)  # what a blob must have room for; lines between colours do not
RIM = 0.75  # objects are painted darker at their edge
FULL = 0.875  # share of its box that a square fills, and a disc does not
SPARE, WEIGHT = 0.6, 3.0  # a triangle fills less, and its centre lies a seventh of its height lower


@dataclass(frozen=True)
class Boxes:
    """What was found, a place for each colour of PALETTE.

    Attributes:
        present: (n, C) bool.
        label: index into LABELS, (n, C) int64; 0 where there is nothing.
        box: (x0, y0, x1, y1) in [0, 1], (n, C, 4), of the blob's pixels.
        centre: centre of area, (n, C, 2).
    """

    present: Tensor
    label: Tensor
    box: Tensor
    centre: Tensor

    def __len__(self) -> int:
        return len(self.present)


def hues(images: Tensor) -> Tensor:
    """Which colour each pixel has: (n, 3, H, W) in [-1, 1] -> (n, H, W) int64, -1 for none."""
    named = torch.tensor([COLOURS[name] for name in PALETTE])
    named = named - named.mean(1, keepdim=True)
    pixels = colourfulness(images)
    direction = named / named.norm(dim=1, keepdim=True)
    likeness = torch.einsum("nchw,kc->nkhw", pixels, direction)
    return torch.where(pixels.norm(dim=1) > FAINT, likeness.argmax(1), -1)


def colourfulness(images: Tensor) -> Tensor:
    """What remains of pixels without their grey part: (n, 3, H, W) in [-1, 1], units of [0, 1]."""
    pixels = to_unit(images)
    return pixels - pixels.mean(1, keepdim=True)


@torch.no_grad()
def detect_boxes(images: Tensor) -> Boxes:
    """Read pictures.

    Args:
        images: (n, 3, H, W) in [-1, 1], of `gentok.data.graph_scenes` or like them.

    Raises:
        ValueError: if ``images`` has another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (n, 3, H, W), got {tuple(images.shape)}")
    hue = hues(images).numpy()
    strength = colourfulness(images).norm(dim=1).numpy()  # (n, H, W)
    n, c = len(images), len(PALETTE)
    label = torch.zeros(n, c, dtype=torch.int64)
    box, centre = torch.zeros(n, c, 4), torch.zeros(n, c, 2)
    for i in range(n):
        for k in range(c):
            blob = largest_blob(hue[i] == k, strength[i])
            if blob is not None:
                box[i, k], centre[i, k] = _extent(blob)
                label[i, k] = _named(blob)
    return Boxes(label > 0, label, box, centre)


def largest_blob(mask: np.ndarray, strength: np.ndarray) -> np.ndarray | None:
    """Share of each pixel that the largest part of one hue takes, its holes filled.

    Args:
        mask: pixels of the hue, (H, W) bool.
        strength: how colourful each pixel is, (H, W).

    Returns:
        (H, W) in [0, 1], or None if no part has room for a block of 3 x 3 pixels.
    """
    core = ndimage.binary_erosion(mask, CORE)
    if not core.any():
        return None
    share = (strength / (RIM * np.median(strength[core]))).clip(0, 1)
    numbered, count = ndimage.label(mask & (share > 0.5))
    if not count:
        return None
    area = np.bincount(numbered.ravel())
    area[0] = 0
    blob = numbered == area.argmax()
    filled = ndimage.binary_fill_holes(blob)
    edge = ndimage.binary_dilation(filled, CORE) & mask  # with pixels taken by less than half
    return np.where(filled & ~blob, 1.0, share * (edge | blob))


def _extent(share: np.ndarray) -> tuple[Tensor, Tensor]:
    """Box and centre of shares (H, W), in [0, 1]."""
    rows, columns = (share > 0.5).nonzero()
    height, width = share.shape
    box = (
        columns.min() / width,
        rows.min() / height,
        (columns.max() + 1) / width,
        (rows.max() + 1) / height,
    )
    middle = ((columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height)
    return torch.tensor(box), torch.tensor(middle)


def fill_of(share: np.ndarray) -> float:
    """Area of shares (H, W) over that of the box around them: longest row times longest column."""
    return share.sum() / (share.sum(0).max() * share.sum(1).max())


def sag_of(share: np.ndarray) -> float:
    """How far the centre of area lies below the middle of the box, in heights of the box."""
    rows = (share > 0.5).any(1).nonzero()[0]
    top, bottom = rows[0], rows[-1]
    centre = (share.sum(1) * np.arange(len(share))).sum() / share.sum()
    return (centre - (top + bottom) / 2) / (bottom - top + 1)


def _named(share: np.ndarray) -> int:
    """Label of the shape."""
    filled = fill_of(share)
    if filled - WEIGHT * sag_of(share) < SPARE:
        return LABELS.index("triangle")
    return LABELS.index("square" if filled > FULL else "disc")


def find_nodes(found: Boxes, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The object of each node, by its shape; of two of one shape the larger.

    Args:
        found: of n pictures; ``labels``: of the nodes, (n, S) int64, 0 for none.

    Returns:
        present (n, S) bool; box (n, S, 4); centre (n, S, 2); colour (n, S) int64, -1 where absent.
    """
    area = (found.box[..., 2:] - found.box[..., :2]).prod(-1)  # (n, C)
    match = (found.label[:, None] == labels[..., None]) & (labels[..., None] > 0)  # (n, S, C)
    best = torch.where(match, area[:, None], -1.0)
    size, colour = best.max(-1)  # (n, S)
    present = size > 0
    rows = torch.arange(len(labels))[:, None]
    box, centre = found.box[rows, colour], found.centre[rows, colour]
    return present, box, centre, torch.where(present, colour, -1)


def holds_any(found: Boxes) -> Tensor:
    """Which pictures show a box within another, (n,) bool."""
    inner, outer = found.box[:, :, None], found.box[:, None]
    both = found.present[:, :, None] & found.present[:, None]
    return (within(inner, outer) & both).flatten(1).any(1)
