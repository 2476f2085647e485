"""Checkpoints: one safetensors file that is either whole or not there.

A checkpoint holds every tensor of a training run by name, the history as a tensor of bytes, and
everything else (step, configuration, settings, versions) as JSON in the file's own header, together
with a SHA-256 over all of it. It is written to a temporary place beside the old one, flushed to the
disk, and then renamed over it. Renaming is atomic: a crash, a kill or a full disk at any moment
leaves the earlier checkpoint as it was. No pickle is involved, so opening a stranger's checkpoint
runs no code.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gentok.training import slices
from gentok.training.schema import Damaged, check_meta

HEADER = "gentok"  # the key of our JSON in the safetensors header; marks a file as ours
HISTORY = "gentok.history"  # the tensor that holds the history: a header may not grow without end
DIGEST = "sha256"  # the key of the digest in the header
Shapes = dict[str, tuple[int, ...]]


def save(path: str | os.PathLike, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
    """Write a checkpoint atomically.

    Args:
        path: the file to write; its folder is made if need be.
        tensors: name to tensor, on any device; tensors that share memory are stored twice.
        meta: what else to keep, as JSON; what JSON does not know is kept as text.

    Returns:
        the path.

    Raises:
        OSError: if the disk is full, the folder cannot be written, or something that is no regular
            file has the name. The temporary file is gone then, and an earlier checkpoint of that
            name is untouched.
    """
    path = Path(path)
    tensors, header = _sealed(_separate(tensors), meta)
    # A folder, because safetensors names its own temporary files: a kill leaves them in here, and
    # the next run sweeps them out.
    workshop = _workshop(path)
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is there and is no regular file")
        shutil.rmtree(workshop, ignore_errors=True)
        workshop.mkdir(parents=True)
        new = workshop / path.name
        save_file(tensors, new, metadata={HEADER: header})
        new.chmod(workshop.stat().st_mode & 0o666)  # safetensors lets the owner alone read it
        with open(new, "rb") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    except (OSError, SafetensorError) as error:
        kept = "; the earlier checkpoint is intact" if path.is_file() else ""
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"could not save checkpoint {path}: {reason}{kept}") from error
    finally:
        sweep(path)
    return path


def sweep(path: Path) -> None:
    """Remove what a save left behind that was killed."""
    shutil.rmtree(_workshop(path), ignore_errors=True)


def load_checkpoint(
    path: str | os.PathLike, whole: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint to the CPU.

    Args:
        path: of the file.
        whole: put slices in a folder beside it together (see `gentok.training.slices`); else they
            are left where they are, for the caller to read.

    Returns:
        tensors: name to tensor.
        meta: the dictionary that was given to `save`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is cut short, is not a safetensors file, is not one of ours, has
            changed since it was written, or says what no checkpoint says.
    """
    with _reading(path) as file:
        meta = _header(file, path)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest = meta.pop(DIGEST, None)  # files of before there were digests have none
        if digest is not None and digest != _digest(tensors, meta):
            raise ValueError("its content is not what was written")
        if HISTORY in tensors:
            meta["history"] = json.loads(tensors.pop(HISTORY).numpy().tobytes())
        check_meta(meta, f"checkpoint {path}")
        if whole and "slices" in meta:
            tensors |= slices.read_whole(Path(path), meta.pop("slices"))
    return tensors, meta


def read_header(path: str | os.PathLike) -> tuple[Shapes, dict[str, Any]]:
    """What a checkpoint holds, without reading a tensor.

    Returns:
        shapes: of its tensors, by name.
        meta: as `load_checkpoint` returns it, without the history.

    Raises:
        FileNotFoundError, ValueError: as `load_checkpoint`; the digest is not checked.
    """
    with _reading(path) as file:
        meta = _header(file, path)
        meta.pop(DIGEST, None)
        check_meta(meta, f"checkpoint {path}")
        names = [name for name in file.keys() if name != HISTORY]  # noqa: SIM118
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        if "slices" in meta:
            shapes |= slices.shapes(Path(path), meta["slices"])
    return shapes, meta


def digest_of(path: str | os.PathLike | None) -> str | None:
    """The SHA-256 that a checkpoint carries: of its tensors and its header.

    Returns:
        None if there is no such file, or it is of before there were digests.

    Raises:
        ValueError: if it is no checkpoint.
    """
    if path is None or not Path(path).is_file():
        return None
    with _reading(path) as file:
        digest = _header(file, path).get(DIGEST)
    return digest if isinstance(digest, str) else None


def _workshop(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _sealed(tensors: dict[str, Tensor], meta: dict[str, Any]) -> tuple[dict[str, Tensor], str]:
    """What is written: tensors with the history among them, and the header with its digest."""
    meta = json.loads(json.dumps(meta, default=str))  # as it will come back
    if "history" in meta:
        rows = bytearray(json.dumps(meta.pop("history")).encode())
        tensors = tensors | {HISTORY: torch.frombuffer(rows, dtype=torch.uint8)}
    return tensors, json.dumps({**meta, DIGEST: _digest(tensors, meta)})


def _digest(tensors: dict[str, Tensor], meta: dict[str, Any]) -> str:
    """SHA-256 of the header and of every tensor's name, kind, shape and bytes."""
    sha = hashlib.sha256(json.dumps(meta).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name!r} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


@contextmanager
def _reading(path: str | os.PathLike) -> Iterator[Any]:
    """Open a safetensors file; whatever is wrong with it is one clear error."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    with open(path, "rb"):  # says by itself what the system forbids
        pass
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except Damaged:
        raise
    except Exception as error:  # of safetensors, of torch, of JSON: each has its own
        raise ValueError(
            f"checkpoint {path} is damaged or of another kind: {brief(error)}"
        ) from error


def _header(file: Any, path: str | os.PathLike) -> dict[str, Any]:
    header = (file.metadata() or {}).get(HEADER)
    if header is None:
        raise Damaged(f"{path} is a safetensors file, but not a checkpoint written by gentok")
    if not isinstance(meta := json.loads(header), dict):
        raise ValueError("its header is no object")
    return meta


def brief(error: Exception) -> str:
    """The first line of a message; torch's go on with where in its own code they arose."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring tensors to the CPU; clone those whose memory an earlier one already uses."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return separate
