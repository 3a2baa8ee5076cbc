"""What is made of two scrapes, against figures that can be told by hand."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.cli.top_frame import Scrape, frame, quantile
from service.metrics import Metrics


class Busy:
    """The series of a server, written by the code that a server writes them with."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.model = self.metrics.of_model("m", "3")
        self.model.declare("embedding", "int8", ())
        self.metrics.watch_workers(2, lambda: 1)

    def scrape(self, at_s: float) -> Scrape:
        return Scrape.of(generate_latest(self.registry).decode(), at_s)

    def answer(self, requests: int, took_s: float) -> None:
        for _ in range(requests):
            self.metrics.request.ended("/v1/embeddings", "m", "3", "ok", "none")
            self.metrics.request.answered("/v1/embeddings", "m", "3", took_s)


def test_frame_tells_the_time_between_two_scrapes_and_not_what_was_before() -> None:
    server = Busy()
    server.answer(1000, 50.0)
    server.model.ran([100])
    before = server.scrape(10.0)
    server.answer(40, 0.001)
    server.model.texts_computed.inc(30)
    server.model.texts_cached.inc(10)
    server.model.ran([10, 20])
    server.model.ran([30])
    server.model.queue_texts.add(lambda: 7)
    server.model.rejected("overloaded")
    server.metrics.request.ended("/v1/embeddings", "m", "3", "overloaded", "server")
    found = frame(before, server.scrape(14.0))
    assert (found.seconds, found.requests_per_s, found.failed_per_s) == (4.0, 41 / 4, 1 / 4)
    assert (found.workers, found.workers_busy) == (2, 1)
    (row,) = found.models
    assert (row.model, row.version, row.variant) == ("m", "3", "int8")
    assert (row.texts_per_s, row.cached, row.queue_texts) == (10.0, 0.25, 7)
    assert (row.batch_texts, row.batch_tokens, row.tokens_per_s) == (1.5, 30.0, 15.0)
    # Beside the text of 20 tokens, one of 10 has 10 places of padding.
    assert row.padding == 10 / 70
    assert row.rejected_per_s == 0.25
    assert row.p50_s is not None
    assert row.p99_s is not None
    # Within the bucket of 0.5 to 1 ms that all are in.
    assert 0.0005 < row.p50_s < row.p99_s <= 0.001


def test_nothing_between_is_no_figure_instead_of_a_wrong_one() -> None:
    server = Busy()
    server.answer(5, 0.001)
    found = frame(server.scrape(0.0), server.scrape(1.0))
    (row,) = found.models
    assert (row.texts_per_s, row.p50_s, row.padding, row.cached) == (0.0, None, None, None)
    assert found.lag_p99_s is None


def test_server_that_was_started_anew_counts_from_zero() -> None:
    before, after = Busy(), Busy()
    before.answer(100, 0.001)
    after.answer(6, 0.001)
    assert frame(before.scrape(0.0), after.scrape(2.0)).requests_per_s == 3.0


def test_version_that_serves_no_more_is_not_shown() -> None:
    server = Busy()
    before = server.scrape(0.0)
    server.metrics.forget("m", "3")
    assert frame(before, server.scrape(1.0)).models == []


@pytest.mark.parametrize(
    ("share", "expected_s"), [(0.25, 0.5), (0.5, 1.0), (0.625, 1.5), (0.75, 2.0), (1.0, 2.0)]
)
def test_quantile_lies_evenly_within_its_bucket(share: float, expected_s: float) -> None:
    # 4 up to 1 s, 2 more up to 2 s, and 2 that took longer than the last bound tells.
    assert quantile(share, {1.0: 4, 2.0: 6, float("inf"): 8}) == pytest.approx(expected_s)


def test_quantile_of_nothing_is_none() -> None:
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {1.0: 0, float("inf"): 0}) is None
