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
    for (question, design), found in method.compared(record).items():
        rows = record["experiments"][f"{question}, {design}"]["rows"]
        base, change = (
            np.array([row["loss"] for row in rows if row["variant"] == arm])
            for arm in method.QUESTIONS[question]
        )
        oracle = stats.ttest_rel(change, base).confidence_interval(0.95)
        assert (found["low"], found["high"]) == pytest.approx((oracle.low, oracle.high), rel=1e-9)
        assert len(base) == 6 and (design == "apart" or found["seeds"] == 6)


def test_both_designs_train_the_same_arms_on_as_many_seeds():
    experiments = records.read_record(PATH)["experiments"]
    assert len(experiments) == 4
    for question, arms in method.QUESTIONS.items():
        for design, shift in method.DESIGNS.items():
            recorded = experiments[f"{question}, {design}"]
            assert recorded["seeds"] == [0, 1, 2, 3, 4, 5]
            assert recorded["arms"] == records.described(
                {arm: {"own": shift * n, **given} for n, (arm, given) in enumerate(arms.items(), 1)}
            )
