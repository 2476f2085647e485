"""The one rule that gives a verdict, from numbers alone.

A system and its baseline run over the same seeds (or one model meets the same items under two
conditions). The differences, system minus baseline, have a mean, the *effect*, and a 95 % interval
[low, high] by the paired t statistic. With s, the smallest effect that matters:

- ``"lower"``, ``"higher"``: *reproduced* if the whole interval lies on the expected side of 0,
  *contradicted* if on the other side, *negligible* if it lies within [-s, s], else *undecided*;
- ``"no worse"``: *reproduced* if the bad end of the interval is better than a loss of s,
  *contradicted* if the good end is worse than that, else *undecided*. Being better is no failure;
- ``"equal"``: *reproduced* if the interval lies within [-s, s], *contradicted* if it lies wholly
  outside, else *undecided*.

With each verdict comes a p-value: the smallest error rate at which the interval would still decide.
A verdict is decided exactly if p < 0.05, so that p-values of many claims can be corrected for their
number, whatever the direction of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DIRECTIONS = ("lower", "higher", "no worse", "equal")
VERDICTS = ("reproduced", "contradicted", "negligible", "undecided")
NOT_TESTABLE = "not testable here"  # a gate failed: see `gentok.book.claims`


@dataclass(frozen=True)
class Comparison:
    """A paired comparison.

    Args:
        effect: mean of system minus baseline, in the metric's unit.
        ci95: low and high end of the 95 % interval of the effect.
        verdict: one of `VERDICTS`.
        pairs: number of pairs: seeds, or items.
        p: the smallest error rate at which the interval still decides; below 0.05 if it does.
    """

    effect: float
    ci95: tuple[float, float]
    verdict: str
    pairs: int
    p: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.ci95[1] - self.ci95[0]) / 2

    def __str__(self) -> str:
        return f"{self.effect:+.3g} ± {self.half_width:.2g} (n = {self.pairs}): {self.verdict}"


def compare(
    system: Sequence[float],
    baseline: Sequence[float],
    direction: str,
    smallest: float | None = None,
    better: str | None = None,
) -> Comparison:
    """Compare a system with its baseline, pair by pair, and give the verdict by the rule above.

    Args:
        system: the metric of the system, a value per pair.
        baseline: the metric of the baseline for the same pairs in the same order.
        direction: what the paper says of the system against the baseline, one of `DIRECTIONS`.
        smallest: s, the smallest effect that matters, at least 0, in the metric's unit; needed for
            ``"no worse"`` and ``"equal"``. Without it no verdict is *negligible*.
        better: for ``"no worse"`` only: the better side of the metric, ``"lower"`` or ``"higher"``.

    Raises:
        ValueError: for fewer than two pairs, unequal lengths, values that are not finite, an
            unknown direction, or a ``smallest`` or ``better`` that is missing or out of place.
    """
    system, baseline = (np.asarray(v, dtype=float) for v in (system, baseline))
    if system.shape != baseline.shape or system.ndim != 1 or len(system) < 2:
        raise ValueError(
            "system and baseline need the same seeds, at least two; "
            f"got shapes {system.shape} and {baseline.shape}"
        )
    if not (np.isfinite(system).all() and np.isfinite(baseline).all()):
        raise ValueError(f"values must be finite, got {system.tolist()} and {baseline.tolist()}")
    check_rule(direction, smallest, better)
    from gentok.measure.intervals import mean_interval  # torch comes with it: seconds

    effect, half = mean_interval(system - baseline)
    low, high = effect - half, effect + half
    verdict = _verdict(low, high, direction, smallest, better)
    gap = _distance(effect, direction, smallest, better)
    if half > 0:
        p = _p_value(gap, half, len(system))
    else:  # no scatter at all
        p = 0.0 if verdict in ("reproduced", "contradicted") else 1.0
    return Comparison(effect, (low, high), verdict, len(system), p)


def check_rule(direction: str, smallest: float | None, better: str | None) -> None:
    """Refuse a rule that cannot be applied.

    Raises:
        ValueError: as `compare`.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
    if smallest is None and direction in ("no worse", "equal"):
        raise ValueError(f'direction "{direction}" needs the smallest effect that matters')
    if smallest is not None and not smallest >= 0:
        raise ValueError(f"the smallest effect that matters must be at least 0, got {smallest}")
    if (better in ("lower", "higher")) != (direction == "no worse"):
        raise ValueError(
            f'better, "lower" or "higher", goes with "no worse" only; got {direction!r}, {better!r}'
        )


def _verdict(
    low: float, high: float, direction: str, smallest: float | None, better: str | None
) -> str:
    if direction == "no worse":
        sign = 1 if better == "higher" else -1
        worst, best = sorted((sign * low, sign * high))  # in units of better
        agrees, disagrees = worst > -smallest, best < -smallest
    elif direction == "equal":
        agrees = -smallest <= low and high <= smallest
        disagrees = low > smallest or high < -smallest
    else:
        agrees, disagrees = (high < 0, low > 0) if direction == "lower" else (low > 0, high < 0)
    if agrees or disagrees:
        return "reproduced" if agrees else "contradicted"
    small = direction in ("lower", "higher") and smallest is not None
    return "negligible" if small and -smallest <= low and high <= smallest else "undecided"


def _distance(effect: float, direction: str, smallest: float | None, better: str | None) -> float:
    """How far the effect lies from the nearest value at which the verdict would turn."""
    if direction == "no worse":
        return abs((effect if better == "higher" else -effect) + smallest)
    return abs(abs(effect) - (smallest if direction == "equal" else 0.0))


def _p_value(gap: float, half: float, pairs: int) -> float:
    """Two-sided p of a t statistic: a gap over the standard error that a half-width implies."""
    from scipy import stats

    error = half / stats.t.ppf(0.975, pairs - 1)
    return float(2 * stats.t.sf(gap / error, pairs - 1))


def over_models(
    system: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over models of the metric of each test item, for a comparison over items.

    Args:
        system, baseline: a list of values, one an item, for each of at least three models; the
            items are the same and in the same order everywhere.

    Raises:
        ValueError: for fewer than three models, or unequal numbers of items.
    """
    lengths = {len(items) for items in (*system, *baseline)}
    if len(system) < 3 or len(system) != len(baseline) or len(lengths) != 1:
        raise ValueError(
            "a comparison within models needs the same items for at least three models; got "
            f"{len(system)} and {len(baseline)} models with {sorted(lengths)} items"
        )
    return np.mean(system, axis=0), np.mean(baseline, axis=0)
