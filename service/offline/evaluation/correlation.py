"""How well numbers follow the numbers that people gave, with 95 % intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from service.offline.evaluation.intervals import Draws, Values, divided, interval_of, resample

Array = npt.NDArray[np.generic]


def numbers(truth: Array, given: Array) -> dict[str, Any]:
    """Spearman, Pearson and the errors in the unit of the numbers, [n] each.

    A correlation is NaN where one side is constant.
    """
    measures = {
        "spearman": spearman,
        "pearson": pearson,
        "mean_absolute_error": _mean_absolute_error,
        "root_mean_squared_error": _root_mean_squared_error,
    }
    found: dict[str, Any] = {"texts": len(truth)}
    for name, measure in measures.items():
        found |= with_interval(name, measure, truth, given)
    return found


def with_interval(
    name: str, measure: Callable[[Values, Values], Values], truth: Array, given: Array
) -> dict[str, Any]:
    """The measure and its bootstrap interval, as `name` and `name_interval`."""
    left, right = _wide(truth), _wide(given)
    draws = resample(lambda rows: measure(left[rows], right[rows]), len(left))
    return {name: float(measure(left, right)), f"{name}_interval": interval_of(draws)}


def spearman(left: Values, right: Values) -> Values:
    """Row by row, [..., n] -> [...]: Pearson of the ranks, equals share theirs (Spearman, 1904)."""
    return pearson(rankdata(left, axis=-1), rankdata(right, axis=-1))


def pearson(left: Values, right: Values) -> Values:
    """Row by row, [..., n] -> [...]; NaN where one side is constant."""
    a, b = (_centred(side) for side in (left, right))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return divided((a * b).sum(axis=-1), scale)


def spearman_of_draws(truth: Array, given: Array) -> Callable[[Draws], Values]:
    """What `resample` takes to draw rows and rank them anew."""
    left, right = _wide(truth), _wide(given)
    return lambda draws: spearman(left[draws], right[draws])


def _centred(side: Values) -> Values:
    """Exactly 0 where all are equal, whatever the mean was rounded to."""
    varies = np.ptp(side, axis=-1, keepdims=True) > 0
    return np.where(varies, side - side.mean(axis=-1, keepdims=True), 0)


def _mean_absolute_error(truth: Values, given: Values) -> Values:
    return np.asarray(np.abs(given - truth).mean(axis=-1))


def _root_mean_squared_error(truth: Values, given: Values) -> Values:
    return np.asarray(np.sqrt(((given - truth) ** 2).mean(axis=-1)))


def _wide(side: Array) -> Values:
    return np.asarray(side, dtype=np.float64)
