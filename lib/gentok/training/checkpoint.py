"""Checkpoints: one safetensors file that is either whole or not there.

A checkpoint holds every tensor of a training run by name, and everything else (step, history,
configuration, versions) as JSON in the file's own header. It is written to a temporary place beside
the old one, flushed to the disk, and then renamed over it. Renaming is atomic: a crash, a kill or a
full disk at any moment leaves the earlier checkpoint as it was. No pickle is involved, so
opening a stranger's checkpoint runs no code.
"""

import dataclasses
import json
import os
import shutil
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gentok.training.shard import slice_like

HEADER = "gentok"  # the key of our JSON in the safetensors header; marks a file as ours
C = TypeVar("C")


def save(path: str | os.PathLike, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
    """Write a checkpoint atomically.

    Args:
        path: the file to write; its folder is made if need be.
        tensors: name to tensor, on any device; tensors that share memory are stored twice.
        meta: what else to keep, as JSON; what JSON does not know is kept as text.

    Returns:
        the path.

    Raises:
        OSError: if the disk is full or the folder cannot be written. The temporary file is gone
            then, and an earlier checkpoint of that name is untouched.
    """
    path = Path(path)
    # A folder, because safetensors names its own temporary files: a kill leaves them in here, and
    # the next save sweeps them out.
    workshop = path.with_name(f".{path.name}.tmp")
    try:
        shutil.rmtree(workshop, ignore_errors=True)
        workshop.mkdir(parents=True)
        new = workshop / path.name
        save_file(_separate(tensors), new, metadata={HEADER: json.dumps(meta, default=str)})
        new.chmod(workshop.stat().st_mode & 0o666)  # safetensors lets the owner alone read it
        with open(new, "rb") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    except (OSError, SafetensorError) as error:
        kept = "; the earlier checkpoint is intact" if path.is_file() else ""
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"could not save checkpoint {path}: {reason}{kept}") from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return path


def load_checkpoint(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint to the CPU.

    Returns:
        tensors: name to tensor.
        meta: the dictionary that was given to `save`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is cut short, is not a safetensors file, or is not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"checkpoint {path} is damaged or of another kind: {error}") from error
    if header is None:
        raise ValueError(f"{path} is a safetensors file, but not a checkpoint written by gentok")
    return tensors, json.loads(header)


def load_weights(module: nn.Module, tensors: dict[str, Tensor], prefix: str, source: str) -> None:
    """Copy the tensors named ``prefix + name`` into a module, all of them or none.

    Raises:
        ValueError: if a tensor is missing, is left over or has another shape; names the first.
    """
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    wanted = module.state_dict()
    for name in sorted(wanted.keys() | found.keys()):
        here = tuple(wanted[name].shape) if name in wanted else "absent"
        there = tuple(found[name].shape) if name in found else "absent"
        if here != there:
            raise ValueError(
                f"{source} is of another model or preset: {name} is {there} there and {here} here"
            )
    module.load_state_dict({name: slice_like(found[name], wanted[name]) for name in wanted})


def load_model(
    path: str | os.PathLike, config_class: type[C], build: Callable[[C], nn.Module]
) -> nn.Module:
    """Build the model that a checkpoint holds, with its averaged (EMA) weights where it has them.

    Args:
        path: a checkpoint written by `gentok.training.fit` of a model with a ``config``.
        config_class: the system's configuration dataclass.
        build: the system's ``build(config)``.

    Returns:
        the model in eval mode, on the CPU.

    Raises:
        FileNotFoundError, ValueError: as `load_checkpoint`, or if it is another system's.
    """
    tensors, meta = load_checkpoint(path)
    try:
        config = restore_config(config_class, meta["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"checkpoint {path} holds a {meta.get('model', 'model')} without a configuration "
            f"that {config_class.__module__}.{config_class.__qualname__} accepts: {error}"
        ) from error
    model = build(config)
    prefix = "ema." if any(name.startswith("ema.") for name in tensors) else "model."
    load_weights(model, tensors, prefix, f"checkpoint {path}")
    return model.eval()


def config_of(model: nn.Module) -> dict[str, Any] | None:
    """The model's ``config`` dataclass as a plain dictionary, or None if it has none."""
    config = getattr(model, "config", None)
    return dataclasses.asdict(config) if dataclasses.is_dataclass(config) else None


def restore_config(cls: type[C], values: dict[str, Any]) -> C:
    """Rebuild a (nested) dataclass from JSON, where tuples have become lists.

    Raises:
        TypeError: if the values are not those of the class.
    """
    hints = typing.get_type_hints(cls)
    return cls(**{name: _value(hints.get(name), value) for name, value in values.items()})


def _value(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_value(None, item) for item in value)
    if isinstance(value, dict):
        for option in (hint, *typing.get_args(hint)):  # a dataclass, or `Dataclass | None`
            if dataclasses.is_dataclass(option):
                return restore_config(option, value)
    return value


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
