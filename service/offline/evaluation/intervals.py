"""How far a measure could be off by the luck of which texts it was taken on: 95 % intervals."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

Interval = tuple[float, float]
Draws = npt.NDArray[np.int64]
Values = npt.NDArray[np.floating[Any]]

RESAMPLES = 1000
# Row numbers that are held at a time, 32 MB.
MOST_DRAWN = 4_000_000
_Z = float(norm.ppf(0.975))


def share_interval(hits: int, of: int) -> Interval:
    """Wilson's interval of a share (Wilson, 1927); from 0 to 1 for a share of nothing."""
    if not of:
        return (0.0, 1.0)
    share = hits / of
    middle = (share + _Z**2 / (2 * of)) / (1 + _Z**2 / of)
    spread = _Z / (1 + _Z**2 / of) * np.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    return (max(0.0, float(middle - spread)), min(1.0, float(middle + spread)))


def resample(
    measure: Callable[[Draws], Values], rows: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> Values:
    """A measure of rows drawn with replacement, again and again: the bootstrap (Efron, 1979).

    The same seed draws the same rows, so that two models can be measured on the same draws.

    Args:
        measure: of row numbers, [draws, rows], its values, [draws] or [draws, labels].

    Returns:
        The values of all draws, [resamples] or [resamples, labels].
    """
    return np.concatenate([measure(draws) for draws in _draws(rows, resamples, seed)])


def interval_of(values: Values) -> Interval:
    """The middle 95 % of a measure's draws; NaN where no draw could be measured."""
    known = values[np.isfinite(values)]
    if not known.size:
        return (float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return (float(low), float(high))


def divided(sums: Values, by: Values) -> Values:
    """Each by each; NaN, without a warning, where there is nothing to divide by."""
    result: Values = np.divide(sums, by, out=np.full(np.shape(by), np.nan), where=by > 0)
    return result


def times_drawn(draws: Draws) -> npt.NDArray[np.float32]:
    """How often each row is in a draw, [draws, rows]: sums over draws become one product."""
    count, rows = draws.shape
    places = draws + rows * np.arange(count)[:, None]
    times = np.bincount(places.ravel(), minlength=count * rows)
    return times.reshape(count, rows).astype(np.float32)


def _draws(rows: int, resamples: int, seed: int) -> Iterator[Draws]:
    rng = np.random.default_rng(seed)
    at_a_time = max(1, MOST_DRAWN // rows)
    for start in range(0, resamples, at_a_time):
        yield rng.integers(rows, size=(min(at_a_time, resamples - start), rows))
