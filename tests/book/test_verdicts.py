"""The verdict rule against scipy's paired t test and statsmodels' equivalence test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from gentok.book.verdicts import compare, over_models
from gentok.measure.intervals import mean_interval

numbers = st.floats(-100, 100).map(lambda x: round(x, 3))
pairs = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8)
MIRROR = {"reproduced": "contradicted", "contradicted": "reproduced"}


def scattered(pairs):
    """Both sides as arrays, or None where scipy would divide by zero."""
    system, baseline = np.array(pairs).T
    return (system, baseline) if np.ptp(system - baseline) > 1e-6 else None


@given(pairs=pairs)
@settings(deadline=None)
def test_interval_and_p_are_those_of_the_paired_t_test(pairs):
    if (sides := scattered(pairs)) is None:
        return
    result, oracle = compare(*sides, "lower"), stats.ttest_rel(*sides)
    interval = oracle.confidence_interval(0.95)
    assert result.ci95 == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)
    assert result.effect == pytest.approx(np.mean(sides[0]) - np.mean(sides[1]), abs=1e-9)
    assert result.p == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-9)


@given(pairs=pairs, smallest=st.floats(0.1, 50))
@settings(deadline=None)
def test_equality_is_the_two_one_sided_tests(pairs, smallest):
    if (sides := scattered(pairs)) is None:
        return
    result = compare(*sides, "equal", smallest)
    p = ttost_paired(*sides, -smallest, smallest)[0]
    if abs(p - 0.025) > 1e-6:
        assert (result.verdict == "reproduced") == (p < 0.025)
    if abs(result.effect) < smallest:
        assert result.p == pytest.approx(2 * p, rel=1e-6, abs=1e-9)


@given(pairs=pairs, rule=st.sampled_from(["lower", "higher", "equal", "no worse"]))
@settings(deadline=None)
def test_a_verdict_is_decided_exactly_if_p_is_below_5_percent(pairs, rule):
    system, baseline = np.array(pairs).T
    better = "higher" if rule == "no worse" else None
    result = compare(system, baseline, rule, 10.0, better)
    if abs(result.p - 0.05) > 1e-9:
        assert (result.verdict in MIRROR) == (result.p < 0.05)


@given(pairs=pairs)
@settings(deadline=None)
def test_swapping_the_sides_mirrors_the_verdict(pairs):
    system, baseline = np.array(pairs).T
    lower, higher = (compare(system, baseline, side).verdict for side in ("lower", "higher"))
    assert higher == MIRROR.get(lower, lower)
    assert compare(baseline, system, "higher").verdict == lower
    not_lower = compare(system, baseline, "no worse", 5.0, "higher").verdict
    assert compare(-system, -baseline, "no worse", 5.0, "lower").verdict == not_lower


def test_rule_on_known_numbers():
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.302653: 2 -+ 2.48414.
    zero = [0.0, 0.0, 0.0]
    low = compare([1, 2, 3], zero, "higher")
    assert low.ci95 == pytest.approx((-0.484138, 4.484138), abs=1e-6)
    assert low.verdict == "undecided" and low.pairs == 3
    # Within 5 of 0 and on no side of it: an effect, if there is one, does not matter.
    assert compare([1, 2, 3], zero, "higher", 5.0).verdict == "negligible"
    assert compare([1, 2, 3], zero, "higher", 4.0).verdict == "undecided"
    # Differences 4, 5, 6: the whole interval lies above zero, whether that matters or not.
    assert compare([4, 5, 6], zero, "higher", 10.0).verdict == "reproduced"
    assert compare([4, 5, 6], zero, "lower").verdict == "contradicted"
    # Equal: 5 -+ 2.484 within 8, outside 2, across 6.
    verdicts = [compare([4, 5, 6], zero, "equal", margin).verdict for margin in (8, 2, 6)]
    assert verdicts == ["reproduced", "contradicted", "undecided"]
    assert compare([-4, -5, -6], zero, "equal", 2).verdict == "contradicted"


def test_no_worse_is_one_sided():
    zero = [0.0, 0.0, 0.0]

    def verdict(values, smallest, better):
        return compare(values, zero, "no worse", smallest, better).verdict

    assert verdict([4, 5, 6], 0.5, "higher") == "reproduced", "being better is no failure"
    assert verdict([1, 2, 3], 0.5, "higher") == "reproduced"  # the bad end is -0.484
    assert verdict([1, 2, 3], 0.4, "higher") == "undecided"
    assert verdict([4, 5, 6], 2, "lower") == "contradicted"  # 2.5 at best, and 2 is too much
    assert verdict([4, 5, 6], 3, "lower") == "undecided"
    assert verdict([4, 5, 6], 8, "lower") == "reproduced"


def test_constant_differences():
    assert compare([1, 2, 3], [2, 3, 4], "lower").ci95 == (-1, -1)
    assert compare([1, 2, 3], [2, 3, 4], "lower").p == 0
    assert compare([1, 2, 3], [1, 2, 3], "lower").verdict == "undecided"
    assert compare([1, 2, 3], [1, 2, 3], "lower", 0.1).verdict == "negligible"
    assert compare([1, 2, 3], [1, 2, 3], "equal", 0.0).verdict == "reproduced"


def test_one_value_has_no_interval():
    assert mean_interval([3.0]) == (3.0, float("inf"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [2.0], "lower"), "at least two"),
        (([1, 2, 3], [2, 3], "lower"), "the same seeds"),
        (([1, 2], [2, float("nan")], "lower"), "must be finite"),
        (([1, 2], [2, 3], "smaller"), "direction must be one of"),
        (([1, 2], [2, 3], "equal"), "needs the smallest effect"),
        (([1, 2], [2, 3], "no worse", None, "lower"), "needs the smallest effect"),
        (([1, 2], [2, 3], "equal", -1), "at least 0"),
        (([1, 2], [2, 3], "lower", 0.1, "lower"), "goes with"),
        (([1, 2], [2, 3], "no worse", 0.1), "goes with"),
        (([1, 2], [2, 3], "no worse", 0.1, "up"), "goes with"),
    ],
)
def test_bad_comparisons(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(*arguments)


def test_items_are_averaged_over_models_and_need_three():
    one = [[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]]
    ours, theirs = over_models(one, [[0.0, 0.0]] * 3)
    assert ours.tolist() == [3.0, 5.0] and theirs.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="at least three models; got 2 and 2"):
        over_models(one[:2], one[:2])
    with pytest.raises(ValueError, match=r"with \[1, 2\] items"):
        over_models(one, [[0.0], [0.0, 0.0], [0.0, 0.0]])
