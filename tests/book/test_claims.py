"""The verdict rule against scipy's paired t test, and committed verdicts against their values."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gentok.book.claims import (
    EXPECTED,
    VERDICTS,
    Ledger,
    checkout,
    compare,
    mean_interval,
    read_record,
    recompute,
    results_folder,
)

RECORDS = sorted((checkout() / "book" / "results").glob("*.json"))
numbers = st.floats(-100, 100).map(lambda x: round(x, 3))
pairs = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8)


@given(pairs=pairs)
@settings(deadline=None)
def test_interval_is_that_of_the_paired_t_test(pairs):
    system, baseline = np.array(pairs).T
    if np.ptp(system - baseline) < 1e-6:
        return  # scipy divides by zero there; see the test of constant differences
    result = compare(system, baseline, "lower")
    oracle = stats.ttest_rel(system, baseline).confidence_interval(0.95)
    assert result.ci95 == pytest.approx((oracle.low, oracle.high), rel=1e-6, abs=1e-6)
    assert result.effect == pytest.approx(np.mean(system) - np.mean(baseline), abs=1e-9)


@given(pairs=pairs)
@settings(deadline=None)
def test_swapping_the_sides_mirrors_the_verdict(pairs):
    system, baseline = np.array(pairs).T
    mirror = {"reproduced": "contradicted", "contradicted": "reproduced"}
    lower, higher = (compare(system, baseline, side).verdict for side in ("lower", "higher"))
    assert higher == mirror.get(lower, lower)
    assert compare(baseline, system, "higher").verdict == lower


def test_rule_on_known_numbers():
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.302653: 2 -+ 2.48414.
    baseline = [0.0, 0.0, 0.0]
    low = compare([1, 2, 3], baseline, "higher")
    assert low.ci95 == pytest.approx((-0.484138, 4.484138), abs=1e-6)
    assert low.verdict == "inconclusive" and low.seeds == 3
    # Differences 4, 5, 6: the whole interval lies above zero.
    assert compare([4, 5, 6], baseline, "higher").verdict == "reproduced"
    assert compare([4, 5, 6], baseline, "lower").verdict == "contradicted"
    # Equal: 5 -+ 2.484 within 8, outside 2, across 6.
    verdicts = [compare([4, 5, 6], baseline, "equal", margin).verdict for margin in (8, 2, 6)]
    assert verdicts == ["reproduced", "contradicted", "inconclusive"]
    assert compare([-4, -5, -6], baseline, "equal", 2).verdict == "contradicted"


def test_constant_differences():
    assert compare([1, 2, 3], [2, 3, 4], "lower").ci95 == (-1, -1)
    assert compare([1, 2, 3], [1, 2, 3], "lower").verdict == "inconclusive"
    assert compare([1, 2, 3], [1, 2, 3], "equal", 0.0).verdict == "reproduced"


def test_one_value_has_no_interval():
    assert mean_interval([3.0]) == (3.0, float("inf"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [2.0], "lower"), "at least two"),
        (([1, 2, 3], [2, 3], "lower"), "the same seeds"),
        (([1, 2], [2, float("nan")], "lower"), "must be finite"),
        (([1, 2], [2, 3], "smaller"), "expected must be one of"),
        (([1, 2], [2, 3], "equal"), "a margin"),
        (([1, 2], [2, 3], "equal", -1), "a margin"),
        (([1, 2], [2, 3], "lower", 0.1), "a margin"),
    ],
)
def test_bad_comparisons(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(*arguments)


def record(**changes):
    """A record with one claim whose numbers are right, unless changed."""
    values = {"system": [1.0, 2.0, 1.5], "baseline": [3.0, 3.5, 3.2]}
    result = compare(values["system"], values["baseline"], "lower")
    claim = {
        "id": "C1", "claim": "a is below b", "metric": "mse", "expected": "lower", "margin": None,
        "system": {"name": "a", "values": values["system"]},
        "baseline": {"name": "b", "values": values["baseline"]},
        "effect": result.effect, "ci95": list(result.ci95), "verdict": result.verdict, "note": "",
    }  # fmt: skip
    return {"system": "fa_vae", "profile": "study", "made": {}, "claims": [{**claim, **changes}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"verdict": "inconclusive"}, "fa_vae C1: inconclusive, not reproduced"),
        ({"effect": -9.0}, "fa_vae C1: numbers"),
        ({"ci95": [-9.0, -1.0]}, "fa_vae C1: numbers"),
        ({"expected": "higher"}, "fa_vae C1: reproduced, not contradicted"),
    ],
)
def test_the_ledger_notices_what_the_values_do_not_give(tmp_path, changes, message):
    (tmp_path / "fa_vae.json").write_text(json.dumps(record(**changes)))
    found = Ledger(tmp_path).mismatches()
    assert len(found) == (message is not None)
    assert message is None or found[0].startswith(message)


def test_table_of_a_ledger(tmp_path):
    assert Ledger(tmp_path).table().empty
    (tmp_path / "fa_vae.json").write_text(json.dumps(record()))
    row = Ledger(tmp_path).table().iloc[0]
    assert (row["system"], row["expected"], row["verdict"]) == ("fa_vae", "a < b", "reproduced")


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"claims": [{}]}', "\xff"])
def test_damaged_records_are_named(tmp_path, content):
    path = tmp_path / "fa_vae.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"record .*fa_vae\.json"):
        read_record(path)


def test_results_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("GENTOK_RESULTS", raising=False)
    monkeypatch.chdir(checkout() / "book")
    assert results_folder() == checkout() / "book" / "results"
    monkeypatch.setenv("GENTOK_RESULTS", str(tmp_path))
    assert results_folder() == tmp_path


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_committed_verdicts_follow_from_their_values(path):
    record = read_record(path)
    assert record["system"] == path.stem and record["profile"] == "study"
    assert record["made"]["date"] and record["made"]["versions"]
    for claim in record["claims"]:
        again = recompute(claim)
        assert again.seeds >= 3, f"{claim['id']} has fewer than three seeds"
        assert claim["expected"] in EXPECTED and claim["verdict"] in VERDICTS
        assert claim["verdict"] == again.verdict
        assert claim["effect"] == pytest.approx(again.effect, rel=1e-9)
        assert claim["ci95"] == pytest.approx(again.ci95, rel=1e-9)
        if again.verdict != "reproduced":
            assert claim["note"], f"{claim['id']} is {again.verdict} and no note says why"
