"""A histogram that counts many observations at a time, as it is observed far more than scraped."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable

from prometheus_client import Histogram
from prometheus_client.samples import Sample

# So many are counted within some 30 µs, which hold nobody up.
MOST_WAITING = 256


class DeferredHistogram(Histogram):
    """The library's; but an observation only waits on a list, until enough do, or for a scrape.

    The library searches the buckets one by one and takes two locks for each observation, on the
    event loop five times a request. None is lost, and every scrape has all of them. One with an
    exemplar is counted at once.
    """

    def _metric_init(self) -> None:
        super()._metric_init()
        # Its ends are safe to use from any thread without a lock.
        self._waiting: deque[float] = deque()

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Callable from any thread."""
        if exemplar:
            super().observe(amount, exemplar)
            return
        waiting = self._waiting
        waiting.append(amount)
        if len(waiting) >= MOST_WAITING:
            self._count_waiting()

    def _count_waiting(self) -> None:
        counts = [0] * len(self._upper_bounds)
        total = 0.0
        try:
            for _ in range(len(self._waiting)):
                amount = self._waiting.popleft()
                counts[bisect_left(self._upper_bounds, amount)] += 1
                total += amount
        except IndexError:
            # Another thread counts, too, and has taken the rest.
            pass
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)

    def _child_samples(self) -> Iterable[Sample]:
        self._count_waiting()
        return super()._child_samples()
