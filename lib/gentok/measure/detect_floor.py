"""Find what stands on a plain floor: fit the floor from the picture's edge, then take blobs.

A plain floor of the procedural world is a constant plus one plane wave, in each colour channel. So
its edge pixels, nearly all of them floor, tell what it looks like under the objects.

Shapes: n pictures, H = W = size pixels, R pixels of the edge, C waves, m blobs.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from gentok.data.world_images import pixel_grid

NUM_DIRECTIONS, NUM_RATES = 24, 10
SLOWEST, FASTEST = 0.7, 2.3  # radians a scene unit; the world's floors have 0.75 to 2.25
ROUNDS = 4  # of fitting the floor and leaving out what is not floor
CONTRAST = 0.15  # smallest distance of an object's colour from the floor, RGB in [0, 1]
MIN_PIXELS = 8  # smaller blobs are specks


@lru_cache(maxsize=4)
def _waves(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Edge mask (H, W); basis 1, sin, cos of each wave, orthonormal on the edge: there (C, R, 3)
    and at all pixels (C, H W, 3)."""
    gx, gy = pixel_grid(size)
    turn = torch.arange(NUM_DIRECTIONS) * (math.pi / NUM_DIRECTIONS)
    along = gx * turn.cos()[:, None, None] + gy * turn.sin()[:, None, None]  # (directions, H, W)
    phase = along[:, None] * torch.linspace(SLOWEST, FASTEST, NUM_RATES)[:, None, None]
    phase = phase.flatten(0, 1).double()  # (C, H, W)
    basis = torch.stack([torch.ones_like(phase), phase.sin(), phase.cos()], -1)
    edge = torch.ones(size, size, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    on_edge, mix = torch.linalg.qr(basis[:, edge])
    everywhere = torch.linalg.solve_triangular(mix, basis.flatten(1, 2), upper=True, left=False)
    return edge, on_edge.float(), everywhere.float()


def fit_floor(images: Tensor) -> tuple[Tensor, Tensor]:
    """The floor under and around the objects.

    Args:
        images: (n, 3, H, W) in [0, 1].

    Returns:
        floor: (n, 3, H, W); noise: median distance of the edge's pixels from it, (n,).
    """
    size, rows = images.shape[-1], torch.arange(len(images))
    edge, on_edge, everywhere = _waves(size)
    seen = images[:, :, edge].transpose(1, 2)  # (n, R, 3)
    target = seen
    for _ in range(ROUNDS):
        weights = torch.einsum("crk,nrj->nckj", on_edge, target)  # (n, C, 3, 3)
        best = weights.square().sum((2, 3)).argmax(1)  # the wave that explains most
        weights = weights[rows, best]
        fitted = on_edge[best] @ weights  # (n, R, 3)
        off = (seen - fitted).norm(dim=-1)
        limit = (3 * off.median(1, keepdim=True).values).clamp_min(0.03)
        # An object that touches the edge is replaced by what the floor would be there.
        target = torch.where((off > limit)[..., None], fitted, seen)
    floor = (everywhere[best] @ weights).transpose(1, 2).unflatten(-1, (size, size))
    return floor, off.median(1).values


def find_blobs(
    images: Tensor, floor: Tensor, noise: Tensor, max_objects: int
) -> tuple[Tensor, Tensor]:
    """The largest connected parts that are not floor.

    Args:
        images, floor, noise: see :func:`fit_floor`.
        max_objects: K, how many to keep of a picture.

    Returns:
        labels: (n, H, W) int64, 0 for floor, else a number that no other blob of the batch has.
        kept: the numbers of each picture's largest blobs, (n, K) int64, 0 where there are fewer.
    """
    sharp = (images - floor).norm(dim=1)
    smooth = F.avg_pool2d(F.pad(images - floor, (1, 1, 1, 1), mode="replicate"), 3, 1).norm(dim=1)
    # Averaging nine pixels takes two thirds of the noise away; clean pictures do not need it.
    distance = torch.where((noise > 0.03)[:, None, None], smooth, sharp)
    mask = distance > torch.maximum(noise * 2, torch.tensor(CONTRAST))[:, None, None]
    beside = np.zeros((3, 3, 3), dtype=bool)  # no pixel of one picture is beside one of another
    beside[1] = ndimage.generate_binary_structure(2, 1)
    numbered, count = ndimage.label(mask.numpy(), beside)
    labels = torch.from_numpy(numbered).long()
    area = torch.bincount(labels.flatten(), minlength=count + 1)[1:]
    picture = torch.arange(len(images))[:, None, None].expand_as(labels)
    owner = torch.zeros(count + 1, dtype=torch.int64)
    owner = owner.scatter_(0, labels.flatten(), picture.flatten())[1:]
    order = torch.from_numpy(np.lexsort((-area.numpy(), owner.numpy())))  # by picture, then area
    order = order[area[order] >= MIN_PIXELS]
    ordered = owner[order].contiguous()
    rank = torch.arange(len(order)) - torch.searchsorted(ordered, ordered)
    kept = torch.zeros(len(images), max_objects, dtype=torch.int64)
    first = rank < max_objects
    kept[ordered[first], rank[first]] = order[first] + 1
    return labels, kept
