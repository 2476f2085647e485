"""Intervals of a mean over repeated runs (Student's t)."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of values and the half-width of its 95 % t interval (infinite for one value)."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float(values.mean()), math.inf
    quantile = stats.t.ppf(0.975, len(values) - 1)
    return float(values.mean()), float(quantile * stats.sem(values))
