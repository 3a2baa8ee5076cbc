"""Whether long texts are harder: what is measured of texts of like length."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.offline.evaluation.intervals import interval_of, resample, share_interval

Values = npt.NDArray[np.float64]

BINS = 6


def right_by_length(tokens: Sequence[int], right: npt.NDArray[np.generic]) -> list[dict[str, Any]]:
    """The share right, [n] of 1.0 and 0.0, with Wilson's interval."""
    return [
        {
            **span,
            "right": float(hits.mean()),
            "right_interval": share_interval(int(hits.sum()), len(hits)),
        }
        for span, hits in _binned(tokens, right.astype(np.float64))
    ]


def error_by_length(tokens: Sequence[int], errors: Values) -> list[dict[str, Any]]:
    """The mean of absolute errors, [n], with its bootstrap interval."""
    return [
        {
            **span,
            "mean_absolute_error": float(off.mean()),
            "mean_absolute_error_interval": _interval_of_mean(off),
        }
        for span, off in _binned(tokens, errors)
    ]


def _interval_of_mean(values: Values) -> tuple[float, float]:
    return interval_of(resample(lambda draws: values[draws].mean(axis=1), len(values)))


def _binned(tokens: Sequence[int], values: Values) -> Iterator[tuple[dict[str, int], Values]]:
    """Bins of about as many texts each; texts of one length share a bin."""
    lengths = np.asarray(tokens)
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, BINS + 1)[1:-1]))
    places = np.searchsorted(edges, lengths)
    for place in np.unique(places):
        inside = lengths[places == place]
        span = {
            "texts": len(inside),
            "least_tokens": int(inside.min()),
            "most_tokens": int(inside.max()),
        }
        yield span, values[places == place]
