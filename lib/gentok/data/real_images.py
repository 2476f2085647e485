"""CIFAR-10 and MNIST, from the folder GENTOK_DATA or from the hub.

CIFAR-10: Krizhevsky (2009), 50,000 + 10,000 photographs of 32 x 32 pixels. MNIST: LeCun et al.
(1998), 60,000 + 10,000 handwritten digits of 28 x 28 pixels. A folder may hold a part of a set.
"""

import gzip
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gentok.data import folder
from gentok.data.files import reading
from gentok.data.imageset import ImageSet
from gentok.data.pictures import decode_picture

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
IDX_TYPES = {0x08: np.uint8}  # the only type MNIST uses
CIFAR10_SIDE, MNIST_SIDE = 32, 28  # pixels


def check_split(split: str) -> None:
    """ValueError unless ``split`` is "train" or "test"."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")


def read_parquet(path: Path, columns: list[str]) -> dict[str, list]:
    """Columns of a parquet file as lists.

    Raises:
        ValueError: if the file is damaged, lacks a column or has no rows.
    """
    import pyarrow.parquet

    with reading(path, f"parquet file with {columns}"):
        table = pyarrow.parquet.ParquetFile(path).read(columns).to_pydict()
        if absent := [name for name in columns if name not in table]:
            raise ValueError(f"it has no column {absent[0]!r}")
        if not table[columns[0]]:
            raise ValueError("it has no rows")
        return table


def contents(cells: list[Any], where: str) -> list[bytes]:
    """The bytes in a column of files: cells ``{"bytes", "path"}``, as ``datasets`` writes them.

    Raises:
        ValueError: if a cell is null or holds a path only; ``where`` names the file.
    """
    found = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
    for row, data in enumerate(found):
        if not isinstance(data, bytes):
            raise ValueError(f"{where}: row {row} holds no bytes of a file, got {cells[row]!r:.60}")
    return found


def class_labels(cells: list[Any] | Tensor, classes: int, where: str) -> Tensor:
    """A column of labels, (N,) int64.

    Raises:
        ValueError: if one is no whole number in [0, ``classes``); ``where`` names the file.
    """
    cells = cells.tolist() if isinstance(cells, Tensor) else list(cells)
    for row, label in enumerate(cells):
        if type(label) is not int or not 0 <= label < classes:
            raise ValueError(
                f"{where}: labels must be whole numbers from 0 to {classes - 1}, got {label!r} "
                f"in row {row}"
            )
    return torch.tensor(cells, dtype=torch.int64)


def read_idx(path: Path) -> Tensor:
    """An IDX file of bytes, plain or gzip: two zeros, type, number of axes, lengths, data.

    Raises:
        ValueError: if the file is cut short or has another type.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        with reading(path, "gzip file"):
            raw = gzip.decompress(raw)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in IDX_TYPES:
        raise ValueError(f"{path} is not an IDX file of bytes: it begins with {raw[:4]!r}")
    head = 4 + 4 * raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw[4:head][: (len(raw[4:head]) // 4) * 4], ">u4"))
    wanted, found = head + math.prod(shape), len(raw)
    if len(shape) != raw[3] or wanted != found:
        raise ValueError(f"{path} is cut short: {wanted} bytes expected, {found} found")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=head).reshape(shape).copy())


def decode_images(encoded: list[bytes], where: str) -> Tensor:
    """JPEG, PNG or other bytes to (N, 3, H, W) uint8.

    Raises:
        ValueError: if one of them is damaged or of another size than the first; ``where`` names
            the file.
    """
    arrays = [
        np.asarray(decode_picture(io.BytesIO(data), f"{where}: image {index}"))
        for index, data in enumerate(encoded)
    ]
    for index, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            sizes = f"{arrays[0].shape[:2]} and {array.shape[:2]}"
            raise ValueError(f"{where}: images 0 and {index} differ in height and width: {sizes}")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def _check_side(images: Tensor, side: int, where: str) -> None:
    """ValueError unless there are images (N, C, H, W), of ``side`` pixels high and wide."""
    if not len(images) or images.shape[2:] != (side, side):
        raise ValueError(f"{where} must hold {side} x {side} pixels, got {tuple(images.shape)}")


def cifar10(split: str = "train", download: bool = False) -> ImageSet:
    """CIFAR-10 photographs, (N, 3, 32, 32).

    Args:
        split: "train" (50,000 on the hub) or "test" (10,000); a folder may hold fewer.
        download: take the hub's copy (`uoft-cs/cifar10`) where the folder has none.

    Raises:
        FileNotFoundError: if it is not in the folder and not to be downloaded.
        ValueError: if ``split`` is unknown or the file is damaged.
    """
    check_split(split)
    relative = f"cifar10/{split}.parquet"
    path = folder.find(relative)
    if path is not None:
        table = read_parquet(path, ["img", "label"])
        images = decode_images(contents(table["img"], str(path)), str(path))
        labels, where = table["label"], f"{folder.VARIABLE}/{relative}"
        _check_side(images, CIFAR10_SIDE, where)
    elif download:
        rows = folder.from_hub("uoft-cs/cifar10", split)
        images = torch.from_numpy(np.stack([np.asarray(row) for row in rows["img"]]))
        images, labels = images.permute(0, 3, 1, 2).contiguous(), rows["label"]
        where = "the hub's uoft-cs/cifar10"
    else:
        raise folder.missing(f"CIFAR-10 ({split})", relative, f"cifar10('{split}', download=True)")
    source = f"CIFAR-10, {split} part, {len(images)} photographs, from {where}"
    labels = class_labels(labels, len(CIFAR10_CLASSES), where)
    return ImageSet(images, labels, CIFAR10_CLASSES, source)


def mnist(split: str = "test", download: bool = False) -> ImageSet:
    """MNIST handwritten digits, white on black, grey in three equal channels, (N, 3, 28, 28).

    Args:
        split: "test" (10,000) or "train" (60,000).
        download: take the hub's copy (`ylecun/mnist`) where the folder has none.

    Raises:
        FileNotFoundError: if it is not in the folder and not to be downloaded.
        ValueError: if ``split`` is unknown, a file is damaged, or the two do not go together.
    """
    check_split(split)
    stem = "mnist/" + {"train": "train", "test": "t10k"}[split]
    paths = [
        folder.find(f"{stem}-{part}-ubyte") or folder.find(f"{stem}-{part}-ubyte.gz")
        for part in ("images-idx3", "labels-idx1")
    ]
    if all(paths):
        images, labels = (read_idx(path) for path in paths)
        where = f"{folder.VARIABLE}/mnist"
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"{where}: images and labels do not go together: {shapes}")
        _check_side(images[:, None], MNIST_SIDE, str(paths[0]))
        class_labels(labels, 10, str(paths[1]))
    elif download:
        rows = folder.from_hub("ylecun/mnist", split)
        images = torch.from_numpy(np.stack([np.asarray(row) for row in rows["image"]]))
        labels, where = torch.tensor(rows["label"]), "the hub's ylecun/mnist"
    else:
        relative = f"{stem}-images-idx3-ubyte(.gz) and its labels"
        raise folder.missing(f"MNIST ({split})", relative, f"mnist('{split}', download=True)")
    source = f"MNIST, {split} part, {len(images)} handwritten digits, from {where}"
    rgb = images[:, None].repeat(1, 3, 1, 1)
    return ImageSet(rgb, labels.to(torch.int64), tuple("0123456789"), source)
