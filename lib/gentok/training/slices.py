"""Checkpoints that no process puts together: each writes, and later reads, its own slices.

A sharded run of a large model keeps in ``runs/a.safetensors`` the header and the history alone. The
header names a folder beside it, ``runs/a.slices-600``, where `torch.distributed.checkpoint` has
every process write what it holds, as safetensors (there is no pickle), and carries the SHA-256 of
each file. It is written last, and atomically: a kill leaves the old header with the old folder, or
the new with the new. Any number of processes reads the folder, each what falls to it.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, distributed
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from gentok.training.machines import agreed
from gentok.training.schema import FOLDER, Damaged
from gentok.training.stages import SUFFIX

LARGE = 2**30  # bytes of weights from which a sharded run keeps slices


def folder_of(out: Path, step: int) -> Path:
    """Where the slices of a step stand: ``runs/a.slices-600``."""
    return out.with_name(f"{out.name.removesuffix(SUFFIX)}.slices-{step}")


def write(out: Path, tensors: dict[str, Tensor], step: int) -> dict[str, Any]:
    """Write the slices that this process holds; every process of the run calls it.

    Returns:
        what the header says of them: the folder's name, the SHA-256 of each file, and which tensors
        are single numbers (the files hold rows of one).

    Raises:
        OSError: if a process cannot write; the earlier folder is intact.
    """
    folder = folder_of(out, step)
    agreed(lambda: shutil.rmtree(folder, ignore_errors=True))
    try:
        writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save({n: _lined_up(t) for n, t in tensors.items()}, storage_writer=writer)
    except CheckpointException as error:
        reasons = {str(failure) for failure, _ in error.failures.values()}
        raise OSError(f"could not save checkpoint {out}: {'; '.join(sorted(reasons))}") from None
    rank, count = distributed.get_rank(), distributed.get_world_size()
    mine = sorted(folder.iterdir())[rank::count]
    files = gather_object([(path.name, _digest(path)) for path in mine])
    numbers = sorted(name for name, tensor in tensors.items() if tensor.ndim == 0)
    return {"folder": folder.name, "files": dict(sorted(files)), "numbers": numbers}


def read(out: Path, slices: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Fill tensors, whole or sharded, in place; in a sharded run every process calls it.

    Raises:
        ValueError: if a file is missing or is not what was written.
    """
    folder = _checked(out, slices)
    alone = not distributed.is_initialized()
    lined = {name: _lined_up(tensor) for name, tensor in tensors.items()}
    dcp.load(lined, storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=alone)


def read_whole(out: Path, slices: dict[str, Any]) -> dict[str, Tensor]:
    """All tensors, put together on the CPU by this process alone.

    Raises:
        ValueError: as `read`.
    """
    folder = _checked(out, slices, share=(0, 1))
    tensors = {n: torch.empty(size, dtype=kind) for n, (size, kind) in _outline(folder).items()}
    reader = dcp.HuggingFaceStorageReader(str(folder))
    dcp.load(tensors, storage_reader=reader, no_dist=True)
    return tensors | {name: tensors[name].reshape(()) for name in slices["numbers"]}


def shapes(out: Path, slices: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the whole tensors, without reading one."""
    found = _outline(out.with_name(slices["folder"]))
    sizes = {name: size for name, (size, _) in found.items()}
    return sizes | dict.fromkeys(slices["numbers"], ())


def sweep(out: Path, kept: str | None) -> None:
    """Remove the folders of slices beside a checkpoint that its header does not name."""
    base = out.name.removesuffix(SUFFIX)
    for folder in out.parent.glob("*.slices-*"):
        own = FOLDER.fullmatch(folder.name) and folder.name.rpartition(".slices-")[0] == base
        if own and folder.name != kept and folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _outline(folder: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    reader = dcp.HuggingFaceStorageReader(str(folder))
    found = reader.read_metadata().state_dict_metadata
    return {name: (tuple(item.size), item.properties.dtype) for name, item in found.items()}


def _lined_up(tensor: Tensor) -> Tensor:
    """A single number as a row of one, which the files need."""
    return tensor.detach().reshape(1) if tensor.ndim == 0 else tensor.detach()


def _checked(out: Path, slices: dict[str, Any], share: tuple[int, int] | None = None) -> Path:
    """The folder, once its files are known to be those that were written.

    Processes share the work; what one finds wrong, all say.
    """
    folder = out.with_name(slices["folder"])
    if share is None:
        alone = not distributed.is_initialized()
        share = (0, 1) if alone else (distributed.get_rank(), distributed.get_world_size())
    index, count = share
    wrong = [
        name
        for name, digest in sorted(slices["files"].items())[index::count]
        if not (folder / name).is_file() or _digest(folder / name) != digest
    ]
    if count > 1:
        wrong = gather_object(wrong)
    if wrong:
        raise Damaged(f"checkpoint {out} is damaged: {folder / min(wrong)} is not what it was")
    return folder


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
