"""Claims: what a paper says, what was measured here, and the one rule that gives the verdict.

The rule. The system and its baseline run over the same seeds. The differences (system minus
baseline, seed by seed) have a mean, the *effect*, and a 95 % confidence interval by the paired
t statistic. If the paper expects the system to be

- ``"lower"`` or ``"higher"``: the claim is *reproduced* if the whole interval lies on the expected
  side of zero, *contradicted* if the whole interval lies on the other side, else *inconclusive*;
- ``"equal"``: the claim states a margin, in the metric's unit. It is *reproduced* if the whole
  interval lies within plus or minus the margin, *contradicted* if it lies wholly outside, else
  *inconclusive*.

Nobody writes a verdict by hand: the ledger keeps the values of every seed, and a test computes all
verdicts again.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import gentok
from gentok.measure.intervals import mean_interval

EXPECTED = ("lower", "higher", "equal")
VERDICTS = ("reproduced", "contradicted", "inconclusive")


@dataclass(frozen=True)
class Comparison:
    """A paired comparison over seeds.

    Args:
        effect: mean of system minus baseline, in the metric's unit.
        ci95: low and high end of the 95 % interval of the effect.
        verdict: ``"reproduced"``, ``"contradicted"`` or ``"inconclusive"``.
        seeds: number of pairs.
    """

    effect: float
    ci95: tuple[float, float]
    verdict: str
    seeds: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.ci95[1] - self.ci95[0]) / 2

    def __str__(self) -> str:
        return f"{self.effect:+.3g} ± {self.half_width:.2g} ({self.seeds} seeds): {self.verdict}"


def compare(
    system: Sequence[float],
    baseline: Sequence[float],
    expected: str,
    margin: float | None = None,
) -> Comparison:
    """Compare a system with its baseline, paired by seed, and give the verdict by the rule above.

    Args:
        system: the metric of the system, a value per seed.
        baseline: the metric of the baseline for the same seeds in the same order.
        expected: what the paper says of the system against the baseline: ``"lower"``,
            ``"higher"`` or ``"equal"``.
        margin: for ``"equal"`` only: the largest difference that still counts as equal, at least
            0, in the metric's unit.

    Raises:
        ValueError: for fewer than two pairs, unequal lengths, values that are not finite, an
            unknown ``expected``, or a margin that is missing or out of place.
    """
    system, baseline = (np.asarray(v, dtype=float) for v in (system, baseline))
    if system.shape != baseline.shape or system.ndim != 1 or len(system) < 2:
        raise ValueError(
            "system and baseline need the same seeds, at least two; "
            f"got shapes {system.shape} and {baseline.shape}"
        )
    if not (np.isfinite(system).all() and np.isfinite(baseline).all()):
        raise ValueError(f"values must be finite, got {system.tolist()} and {baseline.tolist()}")
    if expected not in EXPECTED:
        raise ValueError(f"expected must be one of {EXPECTED}, got {expected!r}")
    if (expected == "equal") != (margin is not None) or (margin is not None and margin < 0):
        raise ValueError(f'a margin of at least 0 goes with "equal" only; got {expected}, {margin}')
    effect, half = mean_interval(system - baseline)
    low, high = effect - half, effect + half
    return Comparison(effect, (low, high), _verdict(low, high, expected, margin), len(system))


def _verdict(low: float, high: float, expected: str, margin: float | None) -> str:
    if expected == "equal":
        agrees, disagrees = -margin <= low and high <= margin, low > margin or high < -margin
    elif expected == "lower":
        agrees, disagrees = high < 0, low > 0
    else:
        agrees, disagrees = low > 0, high < 0
    return "reproduced" if agrees else "contradicted" if disagrees else "inconclusive"


def recompute(claim: dict[str, Any]) -> Comparison:
    """Compute a recorded claim's comparison again, from its values."""
    values = claim["system"]["values"], claim["baseline"]["values"]
    return compare(*values, claim["expected"], claim.get("margin"))


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
    """The folder of records: ``GENTOK_RESULTS`` if set, else the checkout's ``book/results``.

    Raises:
        FileNotFoundError: if it is not set and there is no checkout.
    """
    chosen = os.environ.get("GENTOK_RESULTS")
    return Path(chosen) if chosen else checkout() / "book" / "results"


def read_record(path: Path) -> dict[str, Any]:
    """Read one system's record.

    Raises:
        ValueError: if it is no JSON, or lacks a field that the rule needs.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for claim in record["claims"]:
            for field in ("id", "claim", "metric", "expected", "effect", "ci95", "verdict"):
                _ = claim[field]
            _ = claim["system"]["values"], claim["baseline"]["values"], record["system"]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"record {path} is no JSON: {error}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"record {path} lacks {error}") from error
    return record


class Ledger:
    """All recorded claims of the book.

    Args:
        folder: the folder of records ``<slug>.json``; `results_folder` if None.
    """

    def __init__(self, folder: str | os.PathLike | None = None):
        self.folder = results_folder() if folder is None else Path(folder)
        self.records = [read_record(path) for path in sorted(self.folder.glob("*.json"))]

    def claims(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (system slug, claim) for every recorded claim."""
        for record in self.records:
            for claim in record["claims"]:
                yield record["system"], claim

    def mismatches(self) -> list[str]:
        """One line for each recorded number or verdict that its own values do not give."""
        lines = []
        for slug, claim in self.claims():
            again = recompute(claim)
            numbers = [claim["effect"], *claim["ci95"]]
            if claim["verdict"] != again.verdict:
                lines.append(f"{slug} {claim['id']}: {claim['verdict']}, not {again.verdict}")
            if not np.allclose(numbers, [again.effect, *again.ci95], rtol=1e-9, atol=1e-12):
                lines.append(f"{slug} {claim['id']}: numbers {numbers}, not those of {again}")
        return lines

    def table(self) -> pd.DataFrame:
        """A row per claim, for reading."""
        return claims_table([{"slug": slug, **claim} for slug, claim in self.claims()])


def claims_table(claims: list[dict[str, Any]]) -> pd.DataFrame:
    """Lay claims out as a table: what the paper says, what was measured, the verdict."""
    rows = []
    for claim in claims:
        again = recompute(claim)
        sign = {"lower": "<", "higher": ">", "equal": "="}[claim["expected"]]
        within = f" within {claim['margin']:g}" if claim["expected"] == "equal" else ""
        names = f"{claim['system']['name']} {sign} {claim['baseline']['name']}{within}"
        rows.append(
            {
                **({"system": claim["slug"]} if "slug" in claim else {}),
                "id": claim["id"],
                "claim": claim["claim"],
                "section": claim.get("section", ""),
                "metric": claim["metric"],
                "expected": names,
                "difference": f"{again.effect:+.3g} ± {again.half_width:.2g}",
                "seeds": again.seeds,
                "verdict": again.verdict,
                "note": claim.get("note", ""),
            }
        )
    columns = ["id", "claim", "section", "metric", "expected", "difference", "seeds", "verdict"]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["system", *columns, "note"])
