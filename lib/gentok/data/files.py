"""Files that somebody else wrote: what a decoder raises becomes one line that names the file.

The readers of this library open files through here. A header is a claim: the sizes it states are
held against the bytes that are there before memory is taken for them.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
LONGEST = 200  # characters of a decoder's own words that a message repeats


def reason(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises in the block into one line that names the file.

    Args:
        path: the file, or words that name it; ``kind``: what it should be, in words.

    Raises:
        FileNotFoundError: if the block does.
        ValueError: if the block raises anything else.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, pickle, JSON and others raise two dozen kinds
        raise ValueError(f"{path} is not a readable {kind}: {reason(error)}") from error


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark; lines end in a new line only.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if its bytes are not UTF-8.
    """
    with reading(path, "text file in UTF-8"):
        return path.read_text(encoding="utf-8-sig")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no JSON, or holds something else.
    """
    with reading(path, "JSON file"):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError(f"it must hold an object, got {type(content).__name__}")
        return content


def read_array(path: Path) -> np.ndarray:
    """The array of a .npy file; never one of Python objects, which could run code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, cut short, an archive (.npz), or holds objects.
    """
    with reading(path, ".npy file"), path.open("rb") as stream:
        if stream.read(4) == b"PK\x03\x04":
            raise ValueError("it is an archive of arrays (.npz), not one array")
        stream.seek(0)
        return _array(stream, path.stat().st_size)


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz file, by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, holds no array, or one of objects.
    """
    with reading(path, ".npz file"), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if not names:
            raise ValueError("it holds no array")
        # The whole of an entry is read, and so held against its checksum, before it is looked at.
        return {name.removesuffix(".npy"): _array(*_entry(archive, name)) for name in names}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dictionary, as ``torch.save`` writes it (.pth, .pt, .bin); it cannot run code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds something else.
    """
    with reading(path, "file of weights"):
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not state:
            raise ValueError(f"it must hold tensors by name, got {type(state).__name__}")
        for name, tensor in state.items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                raise ValueError(f"it must hold tensors by name, got {type(tensor).__name__}")
        return dict(state)


def check_finite(path: str | Path, tensors: dict[str, Tensor]) -> None:
    """ValueError, naming the file and the tensor, if a number of a tensor is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path}: {name} holds numbers that are not finite")


def _entry(archive: zipfile.ZipFile, name: str) -> tuple[BinaryIO, int]:
    content = archive.read(name)
    return io.BytesIO(content), len(content)


def _array(stream: BinaryIO, size: int) -> np.ndarray:
    """The array of a stream of ``size`` bytes, once its header has been held against them."""
    version = np.lib.format.read_magic(stream)
    if version not in NPY_HEADERS:
        raise ValueError(f"version {version} of the format; accepted: {list(NPY_HEADERS)}")
    shape, by_columns, dtype = NPY_HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects; accepted: numbers")
    wanted, found = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or wanted > found:
        raise ValueError(f"{shape} {dtype} takes {wanted} bytes, it holds {found}")
    array = np.empty(math.prod(shape), dtype)
    stream.readinto(array.view(np.uint8))
    return array.reshape(shape, order="F" if by_columns else "C")
