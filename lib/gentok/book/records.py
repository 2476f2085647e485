"""Records: what was measured, an experiment at a time, in ``book/results/<slug>.json``.

    {"system": "enat", "experiments": {"blocks": {
        "made": {"started", "ended", "commit", "profile", "machine", "versions", "code", "inputs"},
        "seconds": 1411.8, "seeds": [0, 1, 2], "arms": {"split": {"depth": 3}, ...},
        "gates": [{"id", "what", "worst", "limit", "passed"}],
        "rows": [{"variant", "seed", "seconds", metric: number or list, ...}, ...],
        "renewals": [{"commit", "code", "by": "replay"}],
        "before": [{"made", "seeds", "renewals"}]}}}  # of rows kept when seeds were added, if any

Rows hold every seed, every arm and every metric under its own name, and nothing is added to them
later. Nobody edits a record: `make study` makes it, and `make renew` may append a renewal, which
says that the code of a later commit was replayed and gave the same rows bit for bit. What is
claimed does not stand here: see `gentok.book.claims`.
"""

import hashlib
import json
import math
import os
import platform
import re
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gentok
from gentok.book.claims import Plan, read_plan

NUMBERS = re.compile(r"\[[-+.,\s\deEnul]*\]")  # a list of numbers: one line of the record, not many
DATA = (
    sysconfig.get_path("data"),
    sys.prefix,
    site.getuserbase(),
    Path(gentok.__file__).parents[1],
)
PLACES = [Path(place) / "share" / "gentok" for place in DATA]
# Where an installed wheel keeps records, claims and weights.
SHARED = next((place for place in PLACES if place.is_dir()), PLACES[0])
# What is read of a record, and of which kind it is.
EXPERIMENT = {"made": dict, "seconds": float | int, "seeds": list, "rows": list, "renewals": list}
EXPERIMENT |= {"gates": list}
MADE = {"ended": str, "machine": dict, "versions": dict, "code": str}
GATE = {"id": str, "passed": bool}
PACKAGES = ("numpy", "torch")  # beside gentok and Python, the versions that matter for numbers


def checkout() -> Path:
    """The book's source tree: the one around the current folder, else the one installed from.

    Raises:
        FileNotFoundError: if there is neither.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(gentok.__file__).parents[2]):
        if (folder / "book").is_dir() and (folder / "lib" / "gentok").is_dir():
            return folder
    raise FileNotFoundError(
        f"no checkout of the book at or above {here}; run this inside one, or set GENTOK_RESULTS "
        "to a folder of records"
    )


def results_folder() -> Path:
    """The folder of records.

    ``GENTOK_RESULTS`` if set, else the checkout's ``book/results``, else that of an installed
    wheel.

    Raises:
        FileNotFoundError: if there is none of these.
    """
    chosen = os.environ.get("GENTOK_RESULTS")
    if chosen:
        return Path(chosen)
    try:
        return checkout() / "book" / "results"
    except FileNotFoundError:
        if SHARED.is_dir():
            return SHARED
        raise


def use_installed_weights() -> None:
    """Let GENTOK_WEIGHTS name an installed wheel's weights, where it is unset and no checkout is.

    What loads weights stands on a floor below the book, and knows the variable only.
    """
    near, kept = Path(gentok.__file__).parents[2] / "weights", SHARED / "weights"
    if not os.environ.get("GENTOK_WEIGHTS", "").strip() and not near.is_dir() and kept.is_dir():
        os.environ["GENTOK_WEIGHTS"] = str(kept)


def plan_path(slug: str) -> Path:
    """The file of a chapter's claims: beside the notebook, or beside the records elsewhere."""
    folder = results_folder()
    beside = folder / f"{slug}.claims.toml"
    if folder.name == "results" and folder.parent.name == "book" and not beside.is_file():
        found = sorted((folder.parents[1] / "notebooks").glob(f"*/{slug}.claims.toml"))
        return found[0] if found else beside
    return beside


def plan_of(slug: str) -> Plan:
    """A chapter's claims and gates; empty if it has none yet."""
    return read_plan(plan_path(slug))


def read_record(path: Path) -> dict[str, Any]:
    """Read one system's record.

    Raises:
        ValueError: if it is no JSON, or lacks a field that is read.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"record {path} is no JSON: {error}") from error
    try:
        _check(record, "the record", {"system": str, "experiments": dict})
        for name, experiment in record["experiments"].items():
            _check(experiment, f"experiment {name!r}", EXPERIMENT)
            _check(experiment["made"], f"experiment {name!r}: 'made'", MADE)
            for row in experiment["rows"]:
                _check(row, f"experiment {name!r}: a row", {"variant": str, "seed": int})
            for renewal in experiment["renewals"]:
                _check(renewal, f"experiment {name!r}: a renewal", {"code": str})
            for gate in experiment["gates"]:
                _check(gate, f"experiment {name!r}: a gate", GATE)
    except ValueError as error:
        raise ValueError(f"record {path}: {error}") from error
    return record


def _check(entry: Any, name: str, fields: dict[str, type]) -> None:
    """ValueError unless ``entry`` is an object with these fields, each of its kind."""
    if not isinstance(entry, dict):
        raise ValueError(f"{name} must be an object, got {type(entry).__name__}")
    for field, kind in fields.items():
        if field not in entry:
            raise ValueError(f"{name} lacks {field!r}")
        if not isinstance(entry[field], kind):
            found = type(entry[field]).__name__
            raise ValueError(f"{name}: {field!r} must be {kind.__name__}, got {found}")


def find_record(slug: str) -> dict[str, Any]:
    """A system's record; without experiments if there is no file."""
    path = results_folder() / f"{slug}.json"
    return read_record(path) if path.is_file() else {"system": slug, "experiments": {}}


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record, whole or not at all; lists of numbers stand on one line."""
    text = json.dumps(finite(record), indent=1, allow_nan=False, ensure_ascii=False)
    text = NUMBERS.sub(_one_line, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def codes(experiment: dict[str, Any]) -> list[str]:
    """Hashes of the code that an experiment's rows are known to come from."""
    return [experiment["made"]["code"], *(r["code"] for r in experiment["renewals"])]


def earlier(experiment: dict[str, Any]) -> dict[str, Any]:
    """What is kept of how an experiment's rows were made, when seeds are added to them."""
    return {key: experiment[key] for key in ("made", "seeds", "renewals")}


def cores() -> int:
    """Processor cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def machine(processes: int) -> dict[str, Any]:
    """What the rows are made on: every run takes one thread."""
    return {
        "cores": os.cpu_count(),
        "threads": 1,
        "processes": processes,
        "processor": platform.machine(),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """The versions that matter for numbers."""
    from importlib.metadata import version

    found = {"gentok": gentok.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit() -> str | None:
    """The commit that is checked out, with a ``+`` if the code differs from it; None outside."""
    try:
        folder = checkout()
        head = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        found = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
        status = [
            "git",
            "-C",
            str(folder),
            "status",
            "--porcelain",
            "-uno",
            "--",
            "lib",
            "notebooks",
        ]
        differs = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found + ("+" if differs else "")


def digests(files: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """Name -> first 16 hex digits of the SHA-256 of a file, or of all files in a folder."""
    found = {}
    for name, path in sorted(files):
        sha = hashlib.sha256()
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                with file.open("rb") as stream:
                    sha.update(hashlib.file_digest(stream, "sha256").digest())
        found[name] = sha.hexdigest()[:16]
    return found


def finite(value: Any) -> Any:
    """Replace numbers that JSON cannot hold by null, which pandas reads as missing."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain(value: Any) -> Any:
    """A number, tensor or sequence as plain Python numbers, which JSON keeps exactly."""
    if hasattr(value, "tolist"):  # torch, numpy
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def described(value: Any) -> Any:
    """An arm's argument as JSON can hold it: numbers and words as they are, the rest in words."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _one_line(numbers: re.Match) -> str:
    return "[" + " ".join(numbers[0][1:-1].split()) + "]"
