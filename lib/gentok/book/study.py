"""Studies: an experiment is written once, recorded once, and read by every reader.

One notebook serves all profiles. In ``study`` the arms of its ablations train over all seeds, and
the runs and claims are written to ``book/results/<slug>.json``. In ``cpu`` and ``gpu`` the same
cell loads those runs and says when and where they were made. In ``smoke`` the arms train tiny,
over two seeds, and nothing is kept: that only shows that the code runs.
"""

import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import gentok
from gentok.book import registry
from gentok.book.claims import (
    Comparison,
    checkout,
    claims_table,
    compare,
    results_folder,
)
from gentok.measure.intervals import mean_interval
from gentok.training.profiles import Profile
from gentok.training.profiles import profile as find_profile

NUMBERS = re.compile(r"\[[-+.,\s\deEnul]*\]")  # a list of numbers: one line of the record, not many
LEAST_SEEDS = 3  # fewer cannot carry a recorded claim
Metrics = dict[str, float | list[float]]


class Study:
    """The experiments and claims of one chapter.

    Args:
        slug: the system, as in `gentok.book.registry`.
        profile: the profile in force, or its name.
        live: train in the ``gpu`` profile too, instead of loading the recorded runs.

    Raises:
        ValueError: if the slug or the profile is unknown.
    """

    def __init__(self, slug: str, profile: Profile | str | None = None, live: bool = False):
        self.system = registry.get(slug)
        self.profile = profile if isinstance(profile, Profile) else find_profile(profile)
        self.trains = self.profile.name in ("smoke", "study") or (
            live and self.profile.name == "gpu"
        )
        self.experiments: dict[str, dict[str, Any]] = {}
        self.claims: dict[str, dict[str, Any]] = {}
        self._began = time.monotonic()

    @property
    def path(self) -> Path:
        """The record, ``book/results/<slug>.json``."""
        return results_folder() / f"{self.system.slug}.json"

    def ablate(
        self,
        name: str,
        train: Callable[..., Metrics],
        arms: dict[str, dict[str, Any]],
        seeds: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Run every arm over every seed, or load the runs that were recorded.

        Before each run torch's generator is seeded with the run's seed, so that the arms of one
        seed start alike.

        Args:
            name: the experiment's name in the record; one name, one experiment.
            train: ``train(seed=int, **arm)`` returns the run's metrics: numbers, or lists of
                numbers for curves.
            arms: variant name to the keyword arguments that make it what it is.
            seeds: the profile's seeds if None; in ``smoke`` always two of them.

        Returns:
            a row per (variant, seed): ``variant``, ``seed``, ``seconds``, and the metrics.

        Raises:
            FileNotFoundError: if there is no record to load; names the command that makes it.
            ValueError: if the record was made with other arms, or a recorded study would have
                fewer than three seeds.
        """
        if not self.trains:
            return self._load(name, list(arms))
        seeds = list(self.profile.seeds if seeds is None else seeds)
        if self.profile.name == "smoke":
            seeds = seeds[:2]
        elif self.profile.name == "study" and len(seeds) < LEAST_SEEDS:
            raise ValueError(f"{name}: a study needs at least {LEAST_SEEDS} seeds, got {seeds}")
        began, rows = time.monotonic(), []
        for seed in seeds:
            for variant, arm in arms.items():
                torch.manual_seed(seed)
                start = time.monotonic()
                metrics = {key: _plain(value) for key, value in train(seed=seed, **arm).items()}
                seconds = round(time.monotonic() - start, 3)
                rows.append({"variant": variant, "seed": seed, "seconds": seconds, **metrics})
        rows.sort(key=lambda row: list(arms).index(row["variant"]))
        seconds = round(time.monotonic() - began, 1)
        self.experiments[name] = {"seconds": seconds, "seeds": seeds, "rows": rows}
        if self.profile.name == "smoke":
            print(f"{name}: {len(rows)} tiny runs; these numbers mean nothing")
        else:
            print(f"{name}: {len(rows)} runs over seeds {seeds} in {seconds:.0f} s")
        return pd.DataFrame(rows)

    def claim(
        self,
        id: str,
        claim: str,
        runs: pd.DataFrame,
        metric: str,
        *,
        system: str,
        baseline: str,
        expected: str,
        margin: float | None = None,
        section: str = "",
        note: str = "",
    ) -> Comparison:
        """Hold a claim of the paper against the runs.

        Args:
            id: the claim's number, such as ``"C1"``; stating it again replaces it.
            claim: what the paper says, in one sentence of the book's own.
            runs: what `ablate` returned.
            metric: the column to compare.
            system: the variant that stands for the paper's system; ``baseline`` the other one.
            expected: ``"lower"``, ``"higher"`` or ``"equal"`` (with a ``margin``), as `compare`.
            section: where the paper says so, and its number if it gives one.
            note: a sentence on why, above all where a claim does not reproduce.

        Raises:
            ValueError: if a variant or the metric is not in the runs, or their seeds differ.
        """
        ours, theirs = (_by_seed(runs, variant, metric) for variant in (system, baseline))
        if list(ours.index) != list(theirs.index):
            raise ValueError(
                f"{id}: seeds differ: {system} {list(ours.index)}, {baseline} {list(theirs.index)}"
            )
        comparison = compare(ours.tolist(), theirs.tolist(), expected, margin)
        self.claims[id] = {
            "id": id,
            "claim": claim,
            "section": section,
            "metric": metric,
            "seeds": [int(seed) for seed in ours.index],
            "baseline": {"name": baseline, "values": theirs.tolist()},
            "system": {"name": system, "values": ours.tolist()},
            "expected": expected,
            "margin": margin,
            "effect": comparison.effect,
            "ci95": list(comparison.ci95),
            "verdict": comparison.verdict,
            "note": note,
        }
        return comparison

    def table(self) -> pd.DataFrame:
        """The chapter's claims: what the paper says, what was measured, the verdict."""
        return claims_table(list(self.claims.values()))

    def finish(self) -> Path | None:
        """Write the record, in the ``study`` profile only, whole or not at all.

        Returns:
            the record's path, or None in the other profiles.
        """
        if self.profile.name != "study":
            return None
        record = {
            "system": self.system.slug,
            "profile": self.profile.name,
            "made": self._made(),
            "claims": list(self.claims.values()),
            "experiments": self.experiments,
        }
        text = json.dumps(_finite(record), indent=1, allow_nan=False, ensure_ascii=False)
        text = NUMBERS.sub(_one_line, text)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, self.path)
        print(f"recorded {len(self.claims)} claims in {self.path.name}")
        return self.path

    def _load(self, name: str, variants: list[str]) -> pd.DataFrame:
        again = f"`make study NB={self.system.slug}` makes it"
        if not self.path.is_file():
            raise FileNotFoundError(f"no recorded runs at {self.path}; {again}")
        record = json.loads(self.path.read_text(encoding="utf-8"))
        experiment = record["experiments"].get(name)
        if experiment is None:
            raise FileNotFoundError(f"{self.path} has no experiment {name!r}; {again} anew")
        runs = pd.DataFrame(experiment["rows"])
        recorded = list(dict.fromkeys(runs["variant"]))
        if recorded != variants:
            raise ValueError(
                f"{self.path.name}: {name!r} has arms {recorded}, not {variants}; {again} anew"
            )
        made = record["made"]
        print(
            f"{name}: {len(runs)} runs over seeds {experiment['seeds']}, recorded "
            f"{made['date'][:10]} on {made['machine']['cores']} cores "
            f"({made['machine']['threads']} threads) in {experiment['seconds']:.0f} s"
        )
        self.experiments[name] = experiment
        return runs

    def _made(self) -> dict[str, Any]:
        """When, on what and with what code the record was made."""
        return {
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "seconds": round(time.monotonic() - self._began, 1),
            "seeds": sorted({s for e in self.experiments.values() for s in e["seeds"]}),
            "machine": {
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "processor": platform.machine(),
            },
            "versions": {
                "gentok": gentok.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
            "code": self._code(),
        }

    def _code(self) -> str:
        """Hash of the code that the chapter reaches, or "" where there is no notebook."""
        notebook = checkout() / "notebooks" / self.system.part / f"{self.system.slug}.py"
        if not notebook.is_file():
            return ""
        from gentok.book.notebook import code_hash  # needs jupytext, an extra of the book

        return code_hash(notebook)


def summarize(runs: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Mean ± half-width of the 95 % t interval over seeds, a row per variant.

    Args:
        runs: what `Study.ablate` returned.
        metrics: the columns to show.

    Raises:
        ValueError: if a metric is not a column of the runs.
    """
    for metric in metrics:
        if metric not in runs:
            raise ValueError(f"unknown metric {metric!r}; the runs have {list(runs.columns)}")
    variants = runs.groupby("variant", sort=False)
    return variants[list(metrics)].agg(_mean_text)


def _mean_text(values: pd.Series) -> str:
    mean, half = mean_interval(values.tolist())
    return f"{mean:.4g} ± {half:.2g}" if math.isfinite(half) else f"{mean:.4g}"


def _by_seed(runs: pd.DataFrame, variant: str, metric: str) -> pd.Series:
    """The metric of one variant, indexed by seed in rising order."""
    if metric not in runs:
        raise ValueError(f"unknown metric {metric!r}; the runs have {list(runs.columns)}")
    chosen = runs[runs["variant"] == variant]
    if chosen.empty:
        known = list(dict.fromkeys(runs["variant"]))
        raise ValueError(f"unknown variant {variant!r}; the runs have {known}")
    return chosen.set_index("seed")[metric].astype(float).sort_index()


def _plain(value: Any) -> Any:
    """A number, tensor or sequence as plain Python numbers, which JSON keeps exactly."""
    if hasattr(value, "tolist"):  # torch, numpy
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _one_line(numbers: re.Match) -> str:
    return "[" + " ".join(numbers[0][1:-1].split()) + "]"


def _finite(value: Any) -> Any:
    """Replace numbers that JSON cannot hold by null, which pandas reads as missing."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
