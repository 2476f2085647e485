"""Studies: an experiment is written once, recorded once, and read by every reader.

One notebook serves all profiles. In ``study`` the arms of its experiments train over all seeds,
side by side, and every experiment is written to ``book/results/<slug>.json`` when it is finished.
In ``cpu`` and ``gpu`` the same cell loads those runs and says when and where they were made. In
``smoke`` and ``probe`` the arms train tiny, over two seeds, and nothing is kept.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gentok.book import records, registry, slices
from gentok.book.claims import Plan, judge
from gentok.book.modules import Package
from gentok.book.records import checkout, cores, results_folder
from gentok.book.runs import Journal, Run, file_name, run_all
from gentok.book.tables import claims_table
from gentok.data import folder
from gentok.measure.intervals import mean_interval
from gentok.training.profiles import Profile
from gentok.training.profiles import profile as find_profile

LEAST_SEEDS = 3  # fewer cannot carry a recorded claim
SMALL = ("smoke", "probe")
ONLY = "GENTOK_EXPERIMENT"  # names the one experiment that `make study NB= EXP=` makes anew
ADD = "GENTOK_ADD_SEEDS"  # set: keep the rows that the present code is known to give
Metrics = dict[str, float | list[float]]


class Study:
    """The experiments and claims of one chapter.

    Args:
        slug: the system, as in `gentok.book.registry`, or ``"method"``.
        profile: the profile in force, or its name.
        live: train in the ``gpu`` profile too, instead of loading the recorded runs.

    Raises:
        ValueError: if the slug or the profile is unknown, or the chapter's claims cannot be read.
    """

    def __init__(self, slug: str, profile: Profile | str | None = None, live: bool = False):
        self.slug = slug if slug == "method" else registry.get(slug).slug
        self.profile = profile if isinstance(profile, Profile) else find_profile(profile)
        self.trains = self.profile.name in (*SMALL, "study") or (
            live and self.profile.name == "gpu"
        )
        self.plan: Plan = records.plan_of(self.slug)
        self.rows: dict[str, list[dict[str, Any]]] = {}  # of the experiments that were asked for

    @property
    def path(self) -> Path:
        """The record, ``book/results/<slug>.json``."""
        return results_folder() / f"{self.slug}.json"

    def ablate(
        self,
        name: str,
        train: Callable[..., Metrics],
        arms: dict[str, dict[str, Any]],
        seeds: Sequence[int] | None = None,
        together: bool = False,
    ) -> pd.DataFrame:
        """Run every arm over every seed, or load the runs that were recorded.

        Before each run torch's generator is seeded with the run's seed, so that the arms of one
        seed start alike, and every run has one thread. In ``study`` as many runs as the machine has
        cores go side by side, with the same rows as one after another; a study that is killed goes
        on where it was, as long as its code is what it was.

        Args:
            name: the experiment's name in the record; one name, one experiment.
            train: ``train(seed=int, **arm)`` returns the run's metrics: numbers, or lists of
                numbers for curves or for items.
            arms: variant name to the keyword arguments that make it what it is.
            seeds: the profile's seeds if None; in ``smoke`` and ``probe`` always two of them.
            together: the runs leave something in memory that later cells read, such as trained
                models; they then run one after another in this process, all of them every time.

        Returns:
            a row per (variant, seed): ``variant``, ``seed``, ``seconds``, and the metrics.

        Raises:
            FileNotFoundError: if there is no record to load; names the command that makes it.
            ValueError: if the record was made with other arms, a claim or gate names an arm that
                there is not, or a recorded study would have fewer than three seeds.
            RuntimeError: if the code was edited while the study ran; the runs are not recorded.
        """
        only = os.environ.get(ONLY, name) if self.profile.name == "study" else name
        if not self.trains or only != name:
            return self._load(name, list(arms))
        self._check_arms(name, list(arms))
        seeds = list(self.profile.seeds if seeds is None else seeds)
        if self.profile.name == "study":
            rows = self._measure(name, train, arms, seeds, together)
        else:
            small = self.profile.name in SMALL
            seeds = seeds[:2] if small else seeds
            rows = _by_arm(run_all(_runs(arms, seeds), train, Journal(None, ""), 1, name))
            what = "tiny runs; these numbers mean nothing" if small else "runs, not recorded"
            print(f"{name}: {len(rows)} {what}")
        self.rows[name] = records.finite(rows)
        return pd.DataFrame(rows)

    def gates(self, name: str) -> pd.DataFrame:
        """The gates of one experiment: what must hold before anything is claimed, and whether."""
        found = [gate.check(self._known_rows(name)) for gate in self.plan.gates_of(name)]
        return pd.DataFrame(found, columns=["id", "what", "worst", "limit", "passed"])

    def claim(self, id: str) -> dict[str, Any]:
        """What the runs say about one claim of the chapter's ``claims.toml``.

        Returns:
            the claim and its numbers; the keys are those of `gentok claims --json`.

        Raises:
            ValueError: if there is no such claim, or its experiment lacks an arm or a metric.
        """
        claim = self.plan.claim(id)
        rows = None if claim.test else self._known_rows(claim.experiment)
        others = {gate.experiment for gate in self.plan.gates if gate.id in claim.gates}
        return judge(claim, self.plan, rows, {name: self._known_rows(name) for name in others})

    def table(self, *ids: str) -> pd.DataFrame:
        """Some claims, or all of the chapter: what the paper says, what was measured, the verdict.

        In ``smoke`` and ``probe``, where an experiment may be left out, only those at hand.
        """
        chosen = [self.plan.claim(id) for id in ids] or list(self.plan.claims)
        if self.profile.name in SMALL:
            chosen = [claim for claim in chosen if claim.test or claim.experiment in self.rows]
        return claims_table([self.claim(claim.id) for claim in chosen])

    def finish(self) -> Path | None:
        """Check that every claim can be judged by the record; in ``study`` only.

        Returns:
            the record's path, or None in the other profiles.

        Raises:
            ValueError: if a claim names an experiment, arm or metric that the record lacks.
        """
        if self.profile.name != "study":
            return None
        counted = [self.claim(claim.id)["verdict"] for claim in self.plan.claims]
        print(f"recorded in {self.path.name}; {len(counted)} claims judged")
        return self.path

    def code(self, name: str, train: Callable[..., Metrics]) -> str:
        """Hash of the definitions that an experiment reaches; "" where they cannot be found."""
        found, sources = None, Package()  # read anew: files may have changed
        try:
            path = next((checkout() / "notebooks").glob(f"*/{self.slug}.py"), None)
        except FileNotFoundError:
            return ""
        if path is not None:
            found = slices.experiment_closure(slices.code_cells(path), name, sources)
        found = found or slices.function_closure(_address(train), sources)
        return found.digest() if found else ""

    def _check_arms(self, name: str, arms: list[str]) -> None:
        """Refuse, before anything is trained, claims and gates on arms that there are not."""
        sides = {f"gate {gate.id}": [gate.side] for gate in self.plan.gates_of(name)}
        for claim in self.plan.claims:
            if claim.experiment == name and not claim.test:
                sides[f"claim {claim.id}"] = [claim.system, claim.baseline]
        for what, named in sides.items():
            asked = {side.arm for side in named} | {s.minus.arm for s in named if s.minus}
            if unknown := sorted(asked - set(arms)):
                raise ValueError(f"{what}: {name!r} has no arms {unknown}; there are {arms}")

    def _known_rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of an experiment: of this session, else recorded."""
        if name not in self.rows and self.profile.name not in SMALL:
            self._read(name)
        if name not in self.rows:
            raise ValueError(f"no runs of {name!r} here; there are {list(self.rows)}")
        return self.rows[name]

    def _read(self, name: str) -> dict[str, Any]:
        """A recorded experiment."""
        again = f"`make study NB={self.slug}` makes it"
        if not self.path.is_file():
            raise FileNotFoundError(f"no recorded runs at {self.path}; {again}")
        experiment = records.read_record(self.path)["experiments"].get(name)
        if experiment is None:
            raise FileNotFoundError(f"{self.path} has no experiment {name!r}; {again} anew")
        self.rows[name] = experiment["rows"]
        return experiment

    def _load(self, name: str, variants: list[str]) -> pd.DataFrame:
        experiment = self._read(name)
        runs = pd.DataFrame(experiment["rows"])
        recorded = list(dict.fromkeys(runs["variant"]))
        if recorded != variants:
            raise ValueError(
                f"{self.path.name}: {name!r} has arms {recorded}, not {variants}; "
                f"`make study NB={self.slug} EXP='{name}'` makes it anew"
            )
        made, seconds = experiment["made"], experiment["seconds"]
        # Runs of an earlier, stopped study come out of its journal, which keeps no times.
        time = f"in {seconds:.0f} s" if seconds >= 1 else "by a study that was stopped and resumed"
        print(
            f"{name}: {len(runs)} runs over seeds {experiment['seeds']}, recorded "
            f"{made['ended'][:10]} on {made['machine']['cores']} cores "
            f"({made['machine']['threads']} threads) {time}"
        )
        return runs

    def _measure(
        self,
        name: str,
        train: Callable[..., Metrics],
        arms: dict[str, dict[str, Any]],
        seeds: list[int],
        together: bool,
    ) -> list[dict[str, Any]]:
        """Do all runs of an experiment and put it into the record."""
        if len(seeds) < LEAST_SEEDS:
            raise ValueError(f"{name}: a study needs at least {LEAST_SEEDS} seeds, got {seeds}")
        code, started, began = self.code(name, train), records.now(), time.monotonic()
        before = self._before(name, arms, code) if os.environ.get(ADD) else None
        if before is not None and set(seeds) <= set(before["seeds"]):
            print(f"{name}: no seed is missing")
            return before["rows"]
        kept = checkout() / "_build" / "study" / self.slug / file_name(name)
        journal = Journal(kept if code and not together else None, code)
        processes = 1 if together else cores()
        known = [] if before is None else before["rows"]
        rows = _by_arm(run_all(_runs(arms, seeds), train, journal, processes, name, known))
        if self.code(name, train) != code:
            raise RuntimeError(f"{name}: its code was edited while it ran; not recorded")
        gates = [gate.check(records.finite(rows)) for gate in self.plan.gates_of(name)]
        _say_gates(gates)
        made = {
            "started": started,
            "ended": records.now(),
            "commit": records.commit(),
            "profile": self.profile.name,
            "machine": records.machine(processes),
            "versions": records.versions(),
            "code": code,
            "function": _address(train),
            "inputs": records.digests(folder.opened.items()),
        }
        record = records.find_record(self.slug)
        record["experiments"][name] = {
            "made": made,
            "seconds": round(time.monotonic() - began, 1),
            "seeds": seeds,
            "arms": records.described(arms),
            "gates": gates,
            "rows": rows,
            "renewals": [],
        }
        if before is not None:
            chain = [*before.get("before", []), records.earlier(before)]
            record["experiments"][name]["before"] = chain
        records.write_record(record, self.path)
        journal.clear()
        seconds = record["experiments"][name]["seconds"]
        print(f"{name}: {len(rows)} runs over seeds {seeds} in {seconds:.0f} s")
        return rows

    def _before(self, name: str, arms: dict[str, dict[str, Any]], code: str) -> dict[str, Any]:
        """The recorded experiment that seeds are to be added to.

        Raises:
            ValueError: if its rows are not known to be what the present code gives.
        """
        self._read(name)
        before = records.read_record(self.path)["experiments"][name]
        if not code or code not in records.codes(before):
            again = f"`make renew NB={self.slug}` may prove that its rows hold"
            raise ValueError(f"{name}: its code changed since it was recorded; {again}")
        if before["arms"] != records.described(arms):
            raise ValueError(f"{name}: its arms changed since it was recorded; measure it anew")
        if (torch := before["made"]["versions"]["torch"]) != records.versions()["torch"]:
            raise ValueError(f"{name}: recorded with torch {torch}; measure it anew")
        return before


def _runs(arms: dict[str, dict[str, Any]], seeds: list[int]) -> list[Run]:
    """All runs of an experiment, seed by seed."""
    return [Run(variant, arm, seed) for seed in seeds for variant, arm in arms.items()]


def _by_arm(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows arm by arm, in the order in which the arms come first."""
    order = list(dict.fromkeys(row["variant"] for row in rows))
    return sorted(rows, key=lambda row: order.index(row["variant"]))


def _say_gates(gates: list[dict[str, Any]]) -> None:
    for gate in gates:
        state = "holds" if gate["passed"] else "FAILS: what is claimed on it is not testable"
        worst = "none" if gate["worst"] is None else f"{gate['worst']:.4g}"
        print(f"gate {gate['id']}: {gate['what']}, worst {worst}: {state}")


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


def _address(function: Callable) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', '')}"


def _mean_text(values: pd.Series) -> str:
    mean, half = mean_interval(values.tolist())
    return f"{mean:.4g} ± {half:.2g}" if math.isfinite(half) else f"{mean:.4g}"
