"""What the header of a checkpoint may say, checked in one place before anything relies on it.

Every key is optional here, because not each file of ours is a training run: weights and copies of
tokenizers have keys of their own. What a key holds is checked wherever it stands.
"""

import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

Check = Callable[[Any], bool]
FOLDER = re.compile(r"[^/\\]+\.slices-\d+")


class Damaged(ValueError):
    """A file that says what no checkpoint says."""


def whole(value: Any) -> bool:
    """A whole number, 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def number(value: Any) -> bool:
    """A number, perhaps not a finite one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def finite(value: Any) -> bool:
    """A finite number, 0 or more."""
    return number(value) and 0 <= value < math.inf


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _parts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _slices(value: Any) -> bool:
    """A folder beside the checkpoint, and files in it."""
    if not isinstance(value, dict) or value.keys() != {"folder", "files", "numbers"}:
        return False
    folder, files, numbers = value["folder"], value["files"], value["numbers"]
    if not (isinstance(numbers, list) and all(isinstance(name, str) for name in numbers)):
        return False
    if not (isinstance(folder, str) and FOLDER.fullmatch(folder) and isinstance(files, dict)):
        return False
    inside = all(Path(name).name == name != ".." for name in files)
    return inside and all(_digest(item) for item in files.values())


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is(kind: type) -> Check:
    return lambda value: isinstance(value, kind)


FIELDS: dict[str, tuple[Check, str]] = {
    "step": (whole, "a whole number from 0"),
    "seconds": (finite, "a finite number from 0"),
    "processes": (lambda value: whole(value) and value > 0, "a whole number from 1"),
    "model": (_is(str), "a text"),
    "config": (_optional(_is(dict)), "an object or null"),
    "settings": (_is(dict), "an object"),
    "versions": (_texts, "an object of texts"),
    "parts": (_parts, "an object of objects"),
    "after": (_optional(_digest), "a SHA-256 or null"),
    "slices": (_slices, "a folder beside the checkpoint, with files and their SHA-256"),
}
RUN = ("step", "seconds", "history", "config", "settings")  # what a run goes on from


def check_meta(meta: Any, source: str, wanted: Collection[str] = ()) -> dict[str, Any]:
    """Hold what a header says against the schema.

    Args:
        meta: the parsed JSON.
        source: names the file in messages.
        wanted: keys that must be there.

    Returns:
        the same.

    Raises:
        Damaged: naming the first key that is wrong.
    """
    if not isinstance(meta, dict):
        raise Damaged(f"{source} is damaged: its header is no object")
    if missing := [name for name in wanted if name not in meta]:
        raise Damaged(f"{source} is damaged or no training run: it has no {missing[0]}")
    for name, (check, accepted) in FIELDS.items():
        if name in meta and not check(meta[name]):
            raise Damaged(f"{source} is damaged: {name} must be {accepted}")
    steps = meta.get("settings", {}).get("steps")
    if "step" in meta and steps is not None and not (whole(steps) and meta["step"] <= steps):
        raise Damaged(f"{source} is damaged: step {meta['step']} of {steps!r}")
    if "history" in meta:
        _check_history(meta["history"], meta.get("step"), source)
    return meta


def _check_history(history: Any, done: int | None, source: str) -> None:
    """Rows of numbers, by rising step, of steps that were done; losses are finite."""
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise Damaged(f"{source} is damaged: history must be a list of objects")
    before = -1
    for row in history:
        names = [name for name, value in row.items() if not number(value)]
        names += [n for n in ("step", "seconds", "lr") if n in row and not finite(row[n])]
        names += [n for n in row if n.endswith("loss") and not math.isfinite(row[n])]
        if names:
            raise Damaged(f"{source} is damaged: history has {names[0]} = {row[names[0]]!r}")
        step = row.get("step", before + 1)
        if not (whole(step) and before < step) or (done is not None and step >= done):
            raise Damaged(f"{source} is damaged: history has a row of step {step} out of place")
        before = step
