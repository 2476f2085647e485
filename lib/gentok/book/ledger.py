"""The ledger: every claim of the book, judged by the recorded rows and corrected for their number.

With many claims, each decided at 5 %, some verdicts are wrong by chance. So over all *planned*
claims that could be tested (identities and claims found while looking are no part of it) the ledger
gives Holm's adjusted p-value, which bounds the chance of a single wrong verdict, and the false
discovery rate of Benjamini and Hochberg, the expected share of wrong ones among the decided.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from gentok.book import records, registry
from gentok.book.claims import judge, read_plan
from gentok.book.staleness import stale_experiments
from gentok.book.tables import claims_table

LEVEL = 0.05
DECIDED = ("reproduced", "contradicted")


class Ledger:
    """All claims of the book, in the book's order.

    Args:
        folder: a folder of records ``<slug>.json`` and claims ``<slug>.claims.toml``; None for the
            book's own, or that which ``GENTOK_RESULTS`` names.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a record or a file of claims cannot be read, or a claim names an experiment's
            arm or metric that is not recorded.
    """

    def __init__(self, folder: str | os.PathLike | None = None):
        self.folder = records.results_folder() if folder is None else Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder of records {self.folder}")
        self.records: dict[str, dict[str, Any]] = {}
        self.stale: dict[str, dict[str, str]] = {}  # slug -> experiment -> why
        self.gates: dict[str, list[dict[str, Any]]] = {}
        self._claims: list[dict[str, Any]] = []
        for system in registry.systems():
            self._add(system.slug, own=folder is None)
        self._correct()

    def _add(self, slug: str, own: bool) -> None:
        path = self.folder / f"{slug}.json"
        plan = records.plan_of(slug) if own else read_plan(self.folder / f"{slug}.claims.toml")
        if path.is_file():
            self.records[slug] = records.read_record(path)
            self.stale[slug] = stale_experiments(self.records[slug])
        experiments = self.records.get(slug, {"experiments": {}})["experiments"]
        rows = {name: experiment["rows"] for name, experiment in experiments.items()}
        self.gates[slug] = [
            {"experiment": gate.experiment, **gate.check(rows[gate.experiment])}
            for gate in plan.gates
            if gate.experiment in rows
        ]
        for claim in plan.claims:
            try:
                found = judge(claim, plan, rows.get(claim.experiment), rows)
            except (ValueError, KeyError) as error:
                raise ValueError(f"{slug}: claim {claim.id}: {error}") from error
            stale = self.stale.get(slug, {}).get(claim.experiment, "")
            self._claims.append({"slug": slug, **found, "stale": stale})

    def _correct(self) -> None:
        """Give each planned claim that was tested its corrected p-values."""
        for claim in self._claims:
            claim["p_holm"] = claim["q_bh"] = None
        family = [c for c in self._claims if counts(c) and c["p"] is not None]
        if not family:
            return
        from statsmodels.stats.multitest import multipletests  # slow to import

        for name, method in (("p_holm", "holm"), ("q_bh", "fdr_bh")):
            corrected = multipletests([claim["p"] for claim in family], LEVEL, method)[1]
            for claim, value in zip(family, corrected, strict=True):
                claim[name] = float(value)

    def claims(self, slug: str | None = None) -> Iterator[dict[str, Any]]:
        """Every claim, or those of one system: the keys of `gentok.book.claims.judge`.

        Beside them ``slug``, ``stale`` (why its rows may no longer be those of the code, or ""),
        ``p_holm`` and ``q_bh`` (None for what is not corrected).
        """
        yield from (c for c in self._claims if slug in (None, c["slug"]))

    def summary(self) -> dict[str, Any]:
        """Counts of the whole book.

        Returns:
            ``claims``; ``identities``, ``planned`` and ``found``, each verdict -> count;
            ``decided`` planned claims, those that ``survive_holm`` and ``survive_bh``; ``stale``
            claims; ``failed_gates``.
        """
        planned = [claim for claim in self._claims if counts(claim)]
        decided = [claim for claim in planned if claim["verdict"] in DECIDED]
        found = [c for c in self._claims if c["kind"] != "identity" and not c["planned"]]
        return {
            "claims": len(self._claims),
            "identities": _verdicts(c for c in self._claims if c["kind"] == "identity"),
            "planned": _verdicts(planned),
            "found": _verdicts(found),
            "decided": len(decided),
            "survive_holm": sum(claim["p_holm"] < LEVEL for claim in decided),
            "survive_bh": sum(claim["q_bh"] < LEVEL for claim in decided),
            "stale": sum(bool(claim["stale"]) for claim in self._claims),
            "failed_gates": sum(not g["passed"] for gates in self.gates.values() for g in gates),
        }

    def sentence(self) -> str:
        """The summary in words, for a page or a terminal."""
        counted = self.summary()
        planned, found = sum(counted["planned"].values()), sum(counted["found"].values())
        parts = [
            f"{planned} planned claims: {_list(counted['planned'])}.",
            f"Of {counted['decided']} decided ones {counted['survive_holm']} survive Holm's "
            f"correction and {counted['survive_bh']} a false discovery rate of 5 %.",
        ]
        if found:
            parts.append(f"{found} found while looking, not counted: {_list(counted['found'])}.")
        if counted["identities"]:
            parts.append(f"Identities, shown by exact equality: {_list(counted['identities'])}.")
        if counted["failed_gates"]:
            parts.append(f"Gates that failed: {counted['failed_gates']}.")
        if counted["stale"]:
            parts.append(f"Claims on stale rows: {counted['stale']}.")
        return " ".join(parts)

    def table(self) -> pd.DataFrame:
        """A row per claim, for reading."""
        return claims_table(list(self.claims()))


def counts(claim: dict[str, Any]) -> bool:
    """Whether a claim is part of the tally: planned, and no identity."""
    return claim["planned"] and claim["kind"] != "identity"


def _verdicts(claims: Iterator[dict[str, Any]]) -> dict[str, int]:
    return dict(sorted(Counter(claim["verdict"] for claim in claims).items()))


def _list(verdicts: dict[str, int]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) or "none"
