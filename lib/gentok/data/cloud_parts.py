"""Point clouds of one's own whose points know their part, as ShapeNetPart's.

Layout: ``GENTOK_DATA/cloud_parts/<category>/*.npy``, each an array (rows, 4): x, y, z and the part,
a whole number from 0 that no other category uses.

Shapes: N clouds, B batch, P points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentok.data import folder
from gentok.data.clouds import FARTHEST, SMALLEST, normalize, scale_and_shift
from gentok.data.files import read_array
from gentok.data.imageset import batches, generator

FOLDER = "cloud_parts"


@dataclass(frozen=True)
class PartFiles:
    """Files of clouds: ``labels`` (N,) int64 says which of ``categories`` each belongs to."""

    files: tuple[Path, ...]
    labels: Tensor
    categories: tuple[str, ...]


def part_files() -> PartFiles | None:
    """All clouds under ``GENTOK_DATA/cloud_parts``, or None if there are none."""
    place = folder.find(FOLDER)
    files = tuple(sorted(place.glob("*/*.npy"))) if place else ()
    if not files:
        return None
    names = tuple(sorted({path.parent.name for path in files}))
    labels = torch.tensor([names.index(path.parent.name) for path in files])
    return PartFiles(files, labels, names)


def read_parts(path: Path, num_parts: int) -> tuple[Tensor, Tensor]:
    """A cloud, normalised, and the part of each of its points: (rows, 3) float, (rows,) int64.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no such array, all its points are one, or it names a part that is
            not below ``num_parts``.
    """
    array = read_array(path)
    if array.ndim != 2 or array.shape[1:] != (4,):
        raise ValueError(f"{path} must be one array (rows, 4): x, y, z, part")
    if array.dtype.kind not in "fiu" or not len(array):
        raise ValueError(f"{path} must hold numbers, at least one row of them")
    if not float(np.abs(array).max()) <= FARTHEST:  # nor NaN
        raise ValueError(f"{path} must hold finite numbers, up to {FARTHEST:g}")
    parts = array[:, 3]
    if (parts != parts.round()).any() or parts.min() < 0 or parts.max() >= num_parts:
        wanted = f"whole numbers in [0, {num_parts})"
        raise ValueError(f"{path}: parts must be {wanted}, got {parts.min():g} to {parts.max():g}")
    points = torch.from_numpy(array[:, :3].astype(np.float64))
    if not (points.amax(0) - points.amin(0)).max() >= SMALLEST:
        raise ValueError(f"{path}: all its points are one")
    points = normalize(points).float()
    return points, torch.from_numpy(parts.astype(np.int64))


def part_batches(
    found: PartFiles, num_points: int, num_parts: int, batch_size: int, seed: int
) -> Callable[[int], dict[str, Tensor]]:
    """Batches that are read as they are needed, stretched and shifted; a pure function of the step.

    ShapeNetPart's clouds have other numbers of points, some fewer than 2,048: points are drawn with
    repetition.

    Args:
        found: the files; ``seed``: of their order and of all that is drawn.
        num_points: P; ``num_parts``: how many parts there are; ``batch_size``: B.

    Returns:
        ``f(step)`` giving ``points`` (B, P, 3), ``label`` (B,) and ``parts`` (B, P).
    """
    places = {"index": torch.arange(len(found.files)), "label": found.labels}
    draw = batches(places, batch_size, seed)

    def batch(step: int) -> dict[str, Tensor]:
        chosen, rng = draw(step), generator(seed, step, 3)
        clouds, named = [], []
        for i in chosen["index"].tolist():
            points, parts = read_parts(found.files[i], num_parts)
            some = torch.randint(len(points), (num_points,), generator=rng)
            clouds.append(points[some])
            named.append(parts[some])
        points = scale_and_shift(torch.stack(clouds), rng)
        return {"points": points, "label": chosen["label"], "parts": torch.stack(named)}

    return batch
