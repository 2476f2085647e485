"""Claims laid out as a table, for reading."""

from typing import Any

import pandas as pd

COLUMNS = ["id", "claim", "section", "metric", "expected", "difference", "seeds", "verdict", "note"]


def claims_table(claims: list[dict[str, Any]]) -> pd.DataFrame:
    """A row per claim: what the paper says, what was measured, the verdict.

    Args:
        claims: as `gentok.book.claims.judge` gives them, with a ``slug`` each or none.
    """
    rows = [
        {
            **({"system": claim["slug"]} if "slug" in claim else {}),
            "id": claim["id"],
            "claim": claim["claim"],
            "section": claim["section"],
            "metric": claim["metric"],
            "expected": claim["reads"],
            "difference": difference(claim),
            "seeds": len(claim["seeds"]),
            "verdict": verdict(claim),
            "note": claim["note"],
        }
        for claim in claims
    ]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["system", *COLUMNS])


def difference(claim: dict[str, Any]) -> str:
    """The effect and half the width of its interval."""
    if claim["ci95"] is None:
        return "exact" if claim["kind"] == "identity" else ""
    half = (claim["ci95"][1] - claim["ci95"][0]) / 2
    return f"{claim['effect']:+.3g} ± {half:.2g}"


def verdict(claim: dict[str, Any]) -> str:
    """The verdict in words; a claim that was found while looking says so."""
    words = claim["verdict"] + (f" ({claim['why']})" if claim["why"] else "")
    return words if claim["planned"] or claim["kind"] == "identity" else f"{words}; found"
