"""Configurations in checkpoints: dataclasses written as JSON, and rebuilt with every type checked.

A checkpoint may come from a stranger. Its configuration decides sizes, and it may name a pretrained
network. So each value is held against its field's type, and each text that a file brought along is
marked as `Foreign`: what opens files or asks the hub takes such a name only if the book knows it.
"""

import dataclasses
import types
import typing
from collections.abc import Collection
from typing import Any, TypeVar

from torch import nn

C = TypeVar("C")


class Foreign(str):
    """A text that a file brought along. It compares and prints as any other."""

    __slots__ = ()


def may_open(name: str, known: Collection[str], what: str) -> bool:
    """Whether the hub may be asked for a name; a file's own names are looked up locally, if known.

    Args:
        name: of a folder, or on the hub.
        known: names that the book itself uses.
        what: is named, for the message.

    Raises:
        ValueError: if a file brought the name along and the book does not know it.
    """
    if not isinstance(name, Foreign):
        return True
    if name not in known:
        raise ValueError(
            f"{what} {str(name)!r} is named by the checkpoint alone and was not opened; hand the "
            f"network over, or name it yourself; accepted from a checkpoint: {', '.join(known)}"
        )
    return False


def config_of(model: nn.Module) -> dict[str, Any] | None:
    """The model's ``config`` dataclass as a plain dictionary, or None if it has none."""
    config = getattr(model, "config", None)
    return dataclasses.asdict(config) if dataclasses.is_dataclass(config) else None


def restore_config(cls: type[C], values: dict[str, Any]) -> C:
    """Rebuild a (nested) dataclass from JSON, where tuples have become lists.

    Raises:
        TypeError: if the values are not those of the class, or of other types.
        ValueError: if the class refuses them.
    """
    if not isinstance(values, dict):
        raise TypeError(f"expected the fields of {cls.__name__}, got {_short(values)}")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _value(name, hints.get(name), value) for name, value in values.items()})


def _value(name: str, hint: Any, value: Any) -> Any:
    """A value as its field wants it; the first type of a union that fits decides."""
    for option in _options(hint):
        if dataclasses.is_dataclass(option):
            if isinstance(value, dict):
                return restore_config(option, value)
        elif _fits(option, value):
            if isinstance(value, list):
                return tuple(_items(name, option, value))
            return Foreign(value) if isinstance(value, str) else value
    wanted = getattr(hint, "__name__", None) or str(hint)
    raise TypeError(f"{name} must be of type {wanted}, got {_short(value)}")


def _items(name: str, hint: Any, values: list) -> list[Any]:
    """The entries of a tuple: all of one type, or each of its own."""
    wanted = typing.get_args(hint)
    if not wanted or wanted[-1] is Ellipsis:
        wanted = wanted[:1] * len(values) or (None,) * len(values)
    return [_value(f"{name}[{i}]", wanted[i], value) for i, value in enumerate(values)]


def _options(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value of JSON may stand where the type is wanted; unknown types take anything."""
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is tuple:
        wanted = typing.get_args(hint)
        free = not wanted or wanted[-1] is Ellipsis
        return isinstance(value, list) and (free or len(wanted) == len(value))
    if origin in (int, float):
        kinds = (int,) if origin is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    if origin in (bool, str, dict, types.NoneType):
        return isinstance(value, origin)
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
