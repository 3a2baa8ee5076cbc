"""`encserve`, whose counting is switched off and on: what `benchmarks.metrics_cost` measures.

SIGUSR1 switches it off and SIGUSR2 on again. Only the library's work, and ours in its place, is
left out: looking at the clock, and asking to count, stay.
"""

import signal

from prometheus_client import Counter, Gauge, Histogram, Summary

from service.cli import main
from service.deferred_histogram import DeferredHistogram

COUNTED = [
    (kind, method, vars(kind)[method])
    for kind in (Counter, Gauge, Histogram, DeferredHistogram, Summary)
    for method in ("inc", "dec", "set", "observe")
    if method in vars(kind)
]


def switch_off(*_: object) -> None:
    """Metrics of this process do nothing from now on."""
    for kind, method, _count in COUNTED:
        setattr(kind, method, _nothing)


def switch_on(*_: object) -> None:
    """They count as before."""
    for kind, method, count in COUNTED:
        setattr(kind, method, count)


def _nothing(*_: object) -> None:
    pass


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, switch_off)
    signal.signal(signal.SIGUSR2, switch_on)
    main()
