"""The page on method: its numbers follow from its rows."""

import numpy as np
import pytest
from scipy import stats

from gentok.book import method, records

PATH = records.checkout() / "book" / "results" / "method.json"


def test_seeds_for_a_width():
    for n in (3, 6, 17):
        half = stats.t.ppf(0.975, n - 1) * 0.3 / n**0.5
        assert method.seeds_for(0.3, half) == n
        assert method.seeds_for(0.3, half * 0.999) == n + 1


def test_numbers_of_the_page_follow_from_its_rows():
    record = records.read_record(PATH)
    found = method.compared(record)
    for name, design in found.items():
        rows = record["experiments"][name]["rows"]
        by_arm = {
            arm: np.array([row["loss"] for row in rows if row["variant"] == arm])
            for arm in method.ARMS
        }
        oracle = stats.ttest_rel(by_arm["more XL"], by_arm["even"]).confidence_interval(0.95)
        assert (design["low"], design["high"]) == pytest.approx((oracle.low, oracle.high), rel=1e-9)
        assert len(by_arm["even"]) == 6
    assert found["common"]["seeds"] == 6


def test_both_designs_train_as_long_on_the_same_question():
    experiments = records.read_record(PATH)["experiments"]
    assert list(experiments) == ["apart", "common"]
    chosen = [{k: v["probabilities"] for k, v in e["arms"].items()} for e in experiments.values()]
    assert chosen[0] == chosen[1] == {k: list(v) for k, v in method.ARMS.items()}
    own = [[arm["own"] for arm in e["arms"].values()] for e in experiments.values()]
    assert own == [[1000, 2000], [0, 0]]
