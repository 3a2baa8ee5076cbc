"""How far the texts that are asked have moved from those that the model was made on.

For each feature a sliding window of the last texts is compared with the reference by the population
stability index, the sum over buckets of (p - q) ln(p / q) (Siddiqi, Credit Risk Scorecards, 2006):
below 0.1 little has changed, above 0.25 much. No text is kept, only which bucket each fell into.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from service.metrics import ModelMetrics
from service.runtime.features import features_of
from service.runtime.outputs import FloatArray
from service.store.reference import Histogram, Reference

WINDOW_TEXTS = 2_000
# Of fewer texts the index is mostly chance.
LEAST_TEXTS = 200
# What an empty bucket counts as, so that its logarithm exists.
LEAST_SHARE = 1e-3


class Window:
    """The buckets of the last texts, and their distance from the reference."""

    def __init__(self, reference: Histogram) -> None:
        self._edges = reference.edges
        self._expected = [max(share, LEAST_SHARE) for share in reference.shares]
        self._last: deque[int] = deque(maxlen=WINDOW_TEXTS)
        self._counts = [0] * len(reference.shares)

    def add(self, values: Iterable[float]) -> None:
        for value in values:
            bucket = min(bisect_left(self._edges, value), len(self._counts) - 1)
            if len(self._last) == WINDOW_TEXTS:
                self._counts[self._last[0]] -= 1
            self._last.append(bucket)
            self._counts[bucket] += 1

    def stability_index(self) -> float:
        """0 for the reference itself, and as long as too few texts came."""
        if len(self._last) < LEAST_TEXTS:
            return 0.0
        found = [max(count / len(self._last), LEAST_SHARE) for count in self._counts]
        return sum(
            (now - then) * math.log(now / then)
            for now, then in zip(found, self._expected, strict=True)
        )


class Drift:
    """The windows of one model version; each scrape of the metrics computes their indices.

    Args:
        unknown_id: the token that stands for what the vocabulary lacks; None if there is none.
    """

    def __init__(self, reference: Reference, unknown_id: int | None, metrics: ModelMetrics) -> None:
        self._windows = {name: Window(found) for name, found in reference.features.items()}
        self._unknown_id = unknown_id
        self._centroid = np.asarray(reference.centroid, dtype=np.float32)
        for name, window in self._windows.items():
            metrics.drift(name).set_function(window.stability_index)

    def note(self, texts: Sequence[Sequence[int]], rows: FloatArray) -> None:
        """Some texts were answered: their token ids, and vectors or label scores, [n, width]."""
        for name, values in features_of(texts, rows, self._unknown_id, self._centroid).items():
            if (window := self._windows.get(name)) is not None:
                window.add(values)
