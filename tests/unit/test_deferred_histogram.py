"""Histograms that count many observations at a time."""

import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.exposition import generate_latest

from service.deferred_histogram import MOST_WAITING, DeferredHistogram

BUCKETS = (0.001, 0.5, 1.0, 4.0)


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before_s)


@pytest.mark.parametrize("observations", [0, 1, MOST_WAITING - 1, MOST_WAITING, 5 * MOST_WAITING])
def test_page_is_that_of_the_library(observations: int) -> None:
    """The bounds themselves among what is observed, and what is on no bucket's side of them."""
    pages = []
    for kind in (Histogram, DeferredHistogram):
        rng = random.Random(observations)
        registry = CollectorRegistry()
        histogram = kind("took", "It took.", ["model"], buckets=BUCKETS, registry=registry)
        for _ in range(observations):
            # Halves: sums are exact in whatever order they are made.
            histogram.labels("a").observe(rng.choice([*BUCKETS[1:], -1.0, 0.0, 2.5, 7.0]))
        pages.append([line for line in page(registry) if "_created" not in line])
    assert pages[0] == pages[1]


def test_observation_with_an_exemplar_shows_it() -> None:
    registry = CollectorRegistry()
    histogram = DeferredHistogram("took", "It took.", buckets=BUCKETS, registry=registry)
    histogram.observe(0.75, {"trace_id": "abc"})
    histogram.observe(0.75)
    (shown,) = [line for line in page(registry) if 'le="1.0"' in line]
    assert 'took_bucket{le="1.0"} 2.0 # {trace_id="abc"} 0.75' in shown


@pytest.mark.usefixtures("many_switches")
def test_nothing_is_lost_or_counted_twice_between_threads_and_scrapes() -> None:
    registry = CollectorRegistry()
    histogram = DeferredHistogram("took", "It took.", buckets=BUCKETS, registry=registry)
    threads, each = 4, 20 * MOST_WAITING

    def observe() -> None:
        for _ in range(each):
            histogram.observe(0.75)

    with ThreadPoolExecutor(threads) as pool:
        observing = [pool.submit(observe) for _ in range(threads)]
        seen = [0.0]
        while not all(one.done() for one in observing):
            seen.append(registry.get_sample_value("took_count") or 0.0)
    for one in observing:
        one.result()
    assert seen == sorted(seen)
    assert registry.get_sample_value("took_count") == threads * each
    assert registry.get_sample_value("took_bucket", {"le": "0.5"}) == 0
    assert registry.get_sample_value("took_sum") == threads * each * 0.75


def page(registry: CollectorRegistry) -> list[str]:
    written: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return written.decode().splitlines()
