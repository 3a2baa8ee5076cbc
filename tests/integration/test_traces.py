"""Spans of requests, stages and batches, as a collector gets them from a real server."""

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from service.errors import TracingUnavailable
from service.settings import load_settings
from service.tracing import open_tracing, traces_url
from tests.integration.collector import Collector, attributes, collecting
from tests.integration.conftest import LiveServer, live_server, until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
STAGES = ["read", "tokenize", "queue", "infer", "post_process", "write"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(tiny_store: Path, collector: Collector) -> Iterator[LiveServer]:
    """A server that samples what its callers sample, and nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        # The SDK's own variable: how long spans wait for others, in milliseconds.
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        settings = {"otlp_endpoint": collector.url, "trace_sample_ratio": 0.0, "workers": 1}
        with live_server(tiny_store, **settings) as running:
            yield running


def sampled(answer: httpx2.Response) -> bool:
    return bool(int(answer.headers["traceresponse"].rpartition("-")[2], 16) & 1)


def caller(trace_id: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{PARENT}-{flags}"}


def test_request_and_its_stages_are_spans_of_the_callers_trace(
    traced: LiveServer, collector: Collector
) -> None:
    headers = caller(TRACE) | {"tracestate": "vendor=7", "X-Request-Id": "mine"}
    answer = traced.client.post("/v1/sentiment", json={"input": "the food"}, headers=headers)
    spans = collector.trace(TRACE)
    request = spans.pop("POST /v1/sentiment")
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert (request.parent_span_id.hex(), request.trace_state) == (PARENT, "vendor=7")
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/sentiment",
        "http.response.status_code": 200,
        "encserve.request_id": "mine",
        "encserve.model": "sentiment",
        "encserve.version": "1",
        "encserve.outcome": "ok",
        "encserve.texts": 1,
        "encserve.tokens": 4,
    }
    stages = sorted(spans.values(), key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in stages] == STAGES
    assert {span.parent_span_id for span in stages} == {request.span_id}
    # One after the other, inside of the request; each clock reading may be a microsecond off.
    ends = [request.start_time_unix_nano, *(span.end_time_unix_nano for span in stages)]
    starts = [*(span.start_time_unix_nano for span in stages), request.end_time_unix_nano]
    assert all(end <= start + 1_000 for end, start in zip(ends, starts, strict=True))
    assert (collector.service, collector.paths) == ("encserve", {"/v1/traces"})


def test_batch_is_linked_with_every_request_that_shares_it(
    traced: LiveServer, collector: Collector
) -> None:
    traces = [f"{number:032x}" for number in range(1, 25)]

    async def ask_all() -> None:
        async with httpx2.AsyncClient(base_url=traced.url, timeout=30) as client:
            asked = [
                client.post(
                    "/v1/embeddings",
                    json={"input": f"the train at {number}"},
                    headers=caller(trace_id),
                )
                for number, trace_id in enumerate(traces)
            ]
            assert {one.status_code for one in await asyncio.gather(*asked)} == {200}

    asyncio.run(ask_all())
    requests = {}
    for trace_id in traces:
        spans = collector.trace(trace_id)
        requests[spans["POST /v1/embeddings"].span_id] = spans["infer"]
    batches = {}
    for span in collector.named("batch"):
        if attributes(span)["encserve.model"] == "embedding":
            batches[span.span_id] = span
    # One worker: while it runs the first, others gather.
    assert len(batches) < len(requests)
    linked = [link.span_id for batch in batches.values() for link in batch.links]
    assert sorted(linked) == sorted(requests)
    for batch in batches.values():
        assert attributes(batch)["encserve.texts"] == len(batch.links)
        assert not batch.parent_span_id
        for link in batch.links:
            (back,) = requests[link.span_id].links
            assert (back.trace_id, back.span_id) == (batch.trace_id, batch.span_id)


def test_caller_decides_and_else_the_share_that_is_set(
    traced: LiveServer, collector: Collector
) -> None:
    unwanted, wanted = f"{77:032x}", f"{78:032x}"
    body = {"input": "a bad train"}
    for headers in ({}, caller(unwanted, "00"), {"traceparent": "nonsense"}):
        answer = traced.client.post("/v1/embeddings", json=body, headers=headers)
        assert not sampled(answer)
        assert (unwanted in answer.headers["traceresponse"]) == (unwanted in str(headers))
    traced.client.get("/livez", headers=caller(wanted))
    traced.client.post("/v1/embeddings", json=body, headers=caller(wanted))
    # Spans are sent in their order: by now those before would have come.
    assert list(collector.trace(wanted)) == [
        *("read", "tokenize", "queue", "post_process", "write", "POST /v1/embeddings")
    ]
    known = {span.trace_id for span in collector.named("POST /v1/embeddings")}
    assert bytes.fromhex(unwanted) not in known
    assert not collector.named("GET /livez")


def test_failure_is_told_by_its_code_and_texts_are_in_no_span(
    traced: LiveServer, collector: Collector
) -> None:
    canary = "xyzzycanary"
    refused, late, unknown = (f"{number:032x}" for number in (81, 82, 83))
    traced.client.post("/v1/sentiment", json={canary: canary}, headers=caller(refused))
    headers = caller(late) | {"X-Request-Timeout-Ms": "1"}
    long = {"input": [f"{canary} {number}" for number in range(2000)]}
    assert traced.client.post("/v1/sentiment", json=long, headers=headers).status_code == 504
    traced.client.get(f"/{canary}?{canary}={canary}", headers=caller(unknown))
    request = collector.trace(refused)["POST /v1/sentiment"]
    assert attributes(request)["encserve.outcome"] == "invalid_field"
    assert request.status.code == Status.STATUS_CODE_UNSET
    request = collector.trace(late)["POST /v1/sentiment"]
    assert attributes(request)["error.type"] == "deadline_exceeded"
    assert request.status.code == Status.STATUS_CODE_ERROR
    assert set(collector.trace(unknown)) == {"GET other", "write"}
    assert not any(canary.encode() in body for body in collector.bodies)


def test_sampled_trace_is_the_example_of_a_duration_in_openmetrics(traced: LiveServer) -> None:
    trace_id = f"{91:032x}"
    body = {"input": "the leaves"}
    traced.client.post("/v1/embeddings", json=body, headers=caller(trace_id)).raise_for_status()
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}

    def examples() -> list[str]:
        page = traced.client.get("/metrics", headers=accept).text
        families = open_metrics(page)  # type: ignore[no-untyped-call]
        samples = [sample for family in families for sample in family.samples]
        return [sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar]

    until(lambda: trace_id in examples())


def test_collector_that_is_away_holds_up_neither_answers_nor_the_end(tiny_store: Path) -> None:
    with collecting() as gone:
        pass
    with live_server(tiny_store, otlp_endpoint=gone.url, trace_sample_ratio=1.0) as server:
        asked_s = time.monotonic()
        answer = server.client.post("/v1/embeddings", json={"input": "the food"})
        assert answer.status_code == 200
        assert sampled(answer)
        answered_s = time.monotonic()
    # Far from the quarter of a minute that exporters try for by default.
    assert answered_s - asked_s < 5
    assert time.monotonic() - answered_s < 8


def test_without_an_endpoint_there_are_no_traces(server: LiveServer) -> None:
    answer = server.client.post("/v1/embeddings", json={"input": "food"}, headers=caller(TRACE))
    assert "traceresponse" not in answer.headers
    assert open_tracing(load_settings()) is None


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(TracingUnavailable, match=r"pip install 'encserve\[otel\]'"):
        open_tracing(load_settings(otlp_endpoint="http://127.0.0.1:4318"))


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://collector/otlp/v1/traces", "https://collector/otlp/v1/traces"),
    ],
)
def test_endpoint_without_a_path_has_the_usual_one(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


def test_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="otlp_endpoint"):
        load_settings(otlp_endpoint="collector:4317")
