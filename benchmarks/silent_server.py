"""`encserve`, but nothing is counted: what `benchmarks.metrics_cost` compares with.

Only the library's work is left out. Looking at the clock, and asking to count, stay.
"""

from prometheus_client import Counter, Gauge, Histogram, Summary

from service.cli import main


def silence() -> None:
    """Metrics of this process do nothing from now on."""
    for kind in (Counter, Gauge, Histogram, Summary):
        for method in ("inc", "dec", "set", "observe"):
            if hasattr(kind, method):
                setattr(kind, method, _nothing)


def _nothing(*_: object) -> None:
    pass


if __name__ == "__main__":
    silence()
    main()
