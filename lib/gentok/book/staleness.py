"""Do recorded rows and stored outputs still belong to the code as it is now?"""

import json
from pathlib import Path
from typing import Any

from gentok.book import records, slices
from gentok.book.modules import Package, package_of

CHANGED = "code that it reached changed since its rows were made"


def stale_experiments(record: dict[str, Any], root: Path | None = None) -> dict[str, str]:
    """Which experiments of a record are stale, and why.

    Args:
        record: as `gentok.book.records.read_record` gives it.
        root: the book's source tree; the checkout if None. Outside one nothing can be compared.

    Returns:
        experiment -> why.
    """
    try:
        root = records.checkout() if root is None else root
    except FileNotFoundError:
        return {}
    sources, reasons = package_of(root), {}
    for name, experiment in record["experiments"].items():
        code = code_of(record["system"], name, experiment, root, sources)
        if not code:
            reasons[name] = "nothing here makes it any more"
        elif code not in records.codes(experiment):
            reasons[name] = CHANGED
    return reasons


def code_of(
    slug: str, name: str, experiment: dict[str, Any], root: Path, sources: Package | None = None
) -> str:
    """Hash of what an experiment reaches in a source tree; "" if nothing there makes it.

    A chapter makes it, or, where there is none, the function that the record names.
    """
    sources = sources or package_of(root)
    source = next((root / "notebooks").glob(f"*/{slug}.py"), None)
    if source is not None:
        found = slices.experiment_closure(slices.code_cells(source), name, sources)
    else:
        found = slices.function_closure(experiment["made"].get("function", ""), sources)
    return found.digest() if found else ""


def stale_records(root: Path) -> dict[str, str]:
    """``<slug>: <experiment>`` -> why `make study` should make it again."""
    reasons = {}
    for path in sorted((root / "book" / "results").glob("*.json")):
        try:
            found = stale_experiments(records.read_record(path), root)
            reasons |= {f"{path.stem}: {name}": why for name, why in found.items()}
        except ValueError as error:
            reasons[path.stem] = f"it cannot be read: {error}"
    return reasons


def record_words(slug: str, root: Path) -> str:
    """What a chapter's outputs show of its record and its claims, as one text: rows and rules.

    Sentences and notes are left out, so that a word can be mended without running the chapter.
    """
    path = root / "book" / "results" / f"{slug}.json"
    plan = records.read_plan(next((root / "notebooks").glob(f"*/{slug}.claims.toml"), Path("")))
    words: list[Any] = [
        (c.id, c.kind, c.expected, c.smallest, c.metric, c.gates, c.planned) for c in plan.claims
    ]
    if path.is_file():
        record = records.read_record(path)
        words += [(name, e["seeds"], e["rows"]) for name, e in record["experiments"].items()]
    return json.dumps(words, ensure_ascii=False) if words else ""
