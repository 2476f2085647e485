"""Claims and gates: what is written down before a study runs, and what its rows say about it.

They stand in ``notebooks/<part>/<slug>.claims.toml``, so that a sentence never touches a record:

    [[gate]]                            # no claim before the ground is firm
    id = "trained"
    experiment = "blocks"
    metric = "nll"
    arm = "plain"
    at_most = 3.0                       # or at_least; in every seed
    reason = "a pilot twice as long gives 2.9"

    [[claim]]
    id = "C1"
    sentence = "the split network beats a plain one of equal cost"
    section = "4.1; there 2.1 against 2.5"
    kind = "arms"                       # or "within", "identity"
    experiment = "blocks"
    metric = "nll"
    system = "split"                    # an arm, or {arm, metric, minus, weights, name}
    baseline = "plain"
    direction = "lower"                 # or "higher", "no worse" (with better), "equal"
    smallest = 0.04                     # or "not stated"
    reason = "a tenth of the spread that the paper reports"
    gates = ["trained"]
    planned = true                      # false: found while looking, never counted
    note = "equal cost of a sample"

An *identity* is true by construction: it holds if its two sides agree in every run (or, with
``test``, because the test of that name passes). It has no interval and is counted apart.
"""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from gentok.book.verdicts import NOT_TESTABLE, check_rule, compare, over_models

KINDS = ("arms", "within", "identity")
NOT_STATED = "not stated"
Row = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a number (or a list, one an item) for each seed.

    Args:
        arm: the variant in the rows.
        metric: the column in the rows.
        minus: another side, whose numbers are taken off.
        weights: for a column of lists: take the mean of its entries with these weights.
        name: what to call it; the arm if empty.
    """

    arm: str
    metric: str
    minus: "Side | None" = None
    weights: tuple[float, ...] | None = None
    name: str = ""

    def values(self, rows: Sequence[Row]) -> dict[int, Any]:
        """The value of each seed, seeds in rising order.

        Raises:
            ValueError: if the arm or the metric is not in the rows.
        """
        mine = [row for row in rows if row["variant"] == self.arm]
        if not mine:
            known = list(dict.fromkeys(row["variant"] for row in rows))
            raise ValueError(f"unknown arm {self.arm!r}; the rows have {known}")
        if any(self.metric not in row for row in mine):
            known = [name for name in mine[0] if name not in ("variant", "seed")]
            raise ValueError(f"unknown metric {self.metric!r}; the rows have {known}")
        found = {row["seed"]: self._value(row[self.metric]) for row in mine}
        if self.minus is not None:
            other = self.minus.values(rows)
            found = {seed: found[seed] - other[seed] for seed in found.keys() & other.keys()}
        return dict(sorted(found.items()))

    def _value(self, value: Any) -> Any:
        if isinstance(value, list) and self.weights is not None:
            return float(np.average(value, weights=self.weights))
        if isinstance(value, list):
            return [math.nan if item is None else float(item) for item in value]
        return math.nan if value is None else float(value)


@dataclass(frozen=True)
class Gate:
    """A condition on the rows of an experiment that must hold in every seed."""

    id: str
    experiment: str
    side: Side
    at_most: float | None = None
    at_least: float | None = None
    reason: str = ""

    def check(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Whether it holds: ``id``, ``what``, ``worst`` (of all seeds), ``limit``, ``passed``."""
        values = list(self.side.values(rows).values())
        most = self.at_most is not None
        worst, limit = (max(values), self.at_most) if most else (min(values), self.at_least)
        passed = worst <= limit if most else worst >= limit
        finite = all(math.isfinite(value) for value in values)
        sign = "\N{LESS-THAN OR EQUAL TO}" if most else "\N{GREATER-THAN OR EQUAL TO}"
        return {
            "id": self.id,
            "what": f"{self.side.metric} of {self.side.name} {sign} {limit:g}",
            "worst": worst if finite else None,
            "limit": limit,
            "passed": bool(passed and finite),
        }


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, made measurable before it is measured; the fields as above."""

    id: str
    sentence: str
    section: str = ""
    kind: str = "arms"
    experiment: str = ""
    metric: str = ""
    system: Side | None = None
    baseline: Side | None = None
    direction: str = "equal"
    smallest: float | None = None
    better: str | None = None
    reason: str = ""
    gates: tuple[str, ...] = ()
    planned: bool = True
    note: str = ""
    test: str = ""

    @property
    def expected(self) -> str:
        """What the paper expects, as people read it: ``split < plain``."""
        if self.test:
            return self.test
        signs = {"lower": "<", "higher": ">", "equal": "=", "no worse": "no worse than"}
        within = ""
        if self.direction in ("equal", "no worse") and self.kind != "identity":
            within = f" within {self.smallest:g}"
        return f"{self.system.name} {signs[self.direction]} {self.baseline.name}{within}"


@dataclass(frozen=True)
class Plan:
    """All claims and gates of a chapter."""

    claims: tuple[Claim, ...] = ()
    gates: tuple[Gate, ...] = ()

    def claim(self, id: str) -> Claim:
        """The claim of that number.

        Raises:
            ValueError: if there is none.
        """
        for claim in self.claims:
            if claim.id == id:
                return claim
        raise ValueError(f"unknown claim {id!r}; there are {[claim.id for claim in self.claims]}")

    def gates_of(self, experiment: str) -> list[Gate]:
        """The gates of one experiment."""
        return [gate for gate in self.gates if gate.experiment == experiment]


def read_plan(path: Path) -> Plan:
    """Read a chapter's claims; an empty plan if there is no such file.

    Raises:
        ValueError: if the file is no TOML, or an entry is not as described above; names it.
    """
    if not path.is_file():
        return Plan()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if unknown := content.keys() - {"claim", "gate"}:
            raise ValueError(f"unknown tables {sorted(unknown)}")
        for name, entries in content.items():
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise ValueError(f"[[{name}]] must be tables, got {entries!r:.60}")
        gates = tuple(_entry(entry, _gate) for entry in content.get("gate", []))
        claims = tuple(_entry(entry, _claim) for entry in content.get("claim", []))
        for name, found in (("claim", claims), ("gate", gates)):
            ids = [each.id for each in found]
            if repeated := sorted({id for id in ids if ids.count(id) > 1}):
                raise ValueError(f"{name} {repeated[0]!r} stands twice")
        for claim in claims:
            if missing := set(claim.gates) - {gate.id for gate in gates}:
                raise ValueError(f"claim {claim.id!r} names unknown gates {sorted(missing)}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"claims {path}: {error}") from error
    return Plan(claims, gates)


def _entry(entry: dict[str, Any], build):
    """Build a claim or a gate; errors name it."""
    try:
        _check_kinds(entry)
        return build(entry)
    except (TypeError, KeyError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{entry.get('id', 'an entry without id')}: {reason}") from error


def _check_kinds(entry: dict[str, Any]) -> None:
    """ValueError unless numbers are finite, lists of names lists, and all other fields words."""
    for field, value in entry.items():
        if field in ("at_most", "at_least", "smallest"):
            right = value == NOT_STATED or type(value) in (int, float) and math.isfinite(value)
        elif field in ("system", "baseline", "arm", "minus"):
            right = isinstance(value, str | dict)
            if isinstance(value, dict):
                _check_kinds(value)
        elif field in ("gates", "weights"):
            kind = str if field == "gates" else int | float
            right = isinstance(value, list) and all(isinstance(item, kind) for item in value)
        else:
            right = isinstance(value, bool if field == "planned" else str)
        if not right:
            raise ValueError(f"{field} cannot be {value!r:.60}")


def _side(value: str | dict[str, Any], metric: str, alone: bool = True) -> Side:
    given = {"arm": value} if isinstance(value, str) else dict(value)
    given.setdefault("metric", metric)
    if "minus" in given:
        given["minus"] = _side(given["minus"], given["metric"])
    if "weights" in given:
        given["weights"] = tuple(given["weights"])
    given.setdefault("name", given["arm"] if alone else given["metric"])
    return Side(**given)


def _gate(entry: dict[str, Any]) -> Gate:
    given = dict(entry)
    side = _side(given.pop("arm"), given.pop("metric"))
    if ("at_most" in given) == ("at_least" in given):
        raise ValueError("a gate has either at_most or at_least")
    return Gate(side=side, **given)


def _claim(entry: dict[str, Any]) -> Claim:
    given = dict(entry)
    if unknown := given.keys() - {field.name for field in fields(Claim)}:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    if given.get("kind", "arms") not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {given['kind']!r}")
    if given.get("smallest") == NOT_STATED:
        given["smallest"] = None
    if not given.get("test"):
        metric = given.setdefault("metric", "")
        arms = [s if isinstance(s, str) else s["arm"] for s in (given["system"], given["baseline"])]
        for name in ("system", "baseline"):
            given[name] = _side(given[name], metric, arms[0] != arms[1])
        if given.get("kind") != "identity":
            _ = given["experiment"], given["direction"], given["planned"], given["smallest"]
            check_rule(given["direction"], given["smallest"], given.get("better"))
    elif given.get("kind") != "identity":
        raise ValueError("only an identity is shown by a test")
    given["gates"] = tuple(given.get("gates", ()))
    return Claim(**given)


def judge(claim: Claim, plan: Plan, rows: Sequence[Row] | None, gate_rows=None) -> dict[str, Any]:
    """What the recorded rows say about a claim.

    Args:
        claim: the claim.
        plan: the chapter's plan, for its gates.
        rows: the rows of the claim's experiment, or None if it was not measured.
        gate_rows: experiment -> rows, for gates on other experiments; None for this one alone.

    Returns:
        the claim as plain values, with what was measured: keys as `gentok claims --json` prints
        them. ``verdict`` is one of the rule's, "not testable here" (``why`` says which gate failed
        or that a value is missing), "not measured", and for an identity "holds" or "broken".
    """
    found = _described(claim)
    if claim.test:
        return found | {"verdict": "holds"}
    if rows is None:
        return found | {"verdict": "not measured"}
    ours, theirs = claim.system.values(rows), claim.baseline.values(rows)
    if list(ours) != list(theirs):
        raise ValueError(
            f"{claim.id}: seeds differ: {claim.system.name} {list(ours)}, "
            f"{claim.baseline.name} {list(theirs)}"
        )
    found["seeds"] = list(ours)
    for side, values in (("system", ours), ("baseline", theirs)):
        found[side] = found[side] | {"values": list(values.values())}
    values = list(ours.values()), list(theirs.values())
    if claim.kind == "identity":
        return found | _identity(claim, *values)
    gates = [gate for gate in plan.gates if gate.id in claim.gates]
    where = gate_rows or {claim.experiment: rows}
    failed = [g.id for g in gates if not g.check(where[g.experiment])["passed"]]
    if failed:
        return found | {"failed_gates": failed, "verdict": NOT_TESTABLE, "why": ", ".join(failed)}
    if claim.kind == "within" and isinstance(values[0][0], list):
        values = over_models(*values)
    if not all(np.isfinite(side).all() for side in values):
        return found | {"verdict": NOT_TESTABLE, "why": "a run has no value"}
    result = compare(*values, claim.direction, claim.smallest, claim.better)
    numbers = {"effect": result.effect, "ci95": list(result.ci95), "p": result.p}
    return found | numbers | {"pairs": result.pairs, "verdict": result.verdict}


def _described(claim: Claim) -> dict[str, Any]:
    """The claim as plain values."""
    exact = claim.direction in ("equal", "no worse")
    return {
        "id": claim.id,
        "claim": claim.sentence,
        "section": claim.section,
        "kind": claim.kind,
        "experiment": claim.experiment,
        "metric": claim.metric,
        "seeds": [],
        "baseline": {"name": claim.baseline.name if claim.baseline else "", "values": []},
        "system": {"name": claim.system.name if claim.system else "", "values": []},
        "expected": claim.direction,
        "margin": claim.smallest if exact else None,
        "smallest": claim.smallest,
        "better": claim.better,
        "reason": claim.reason,
        "planned": claim.planned,
        "gates": list(claim.gates),
        "failed_gates": [],
        "why": "",
        "effect": None,
        "ci95": None,
        "p": None,
        "pairs": None,
        "note": claim.note,
        "test": claim.test,
        "reads": claim.expected,
    }


def _identity(claim: Claim, ours: list[Any], theirs: list[Any]) -> dict[str, Any]:
    """An identity holds if every run obeys it, to the last digit."""
    pairs = list(zip(ours, theirs, strict=True))
    agree = {
        "equal": lambda a, b: a == b,
        "lower": lambda a, b: a < b,
        "higher": lambda a, b: a > b,
    }[claim.direction]
    effect = float(np.mean([np.mean(np.subtract(a, b)) for a, b in pairs]))
    holds = all(agree(a, b) for a, b in pairs)
    return {"effect": effect, "verdict": "holds" if holds else "broken"}
