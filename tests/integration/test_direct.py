"""The short way to a route and FastAPI's own lead to the same answers, counted the same."""

import re
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import app
from tests.integration.conftest import LiveServer, ServerFactory, documented_examples, until

WRONG: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/embeddings", {"json": {"input": ""}}),
    ("POST", "/v1/embeddings", {"json": {"input": "a train", "model": "none"}}),
    ("POST", "/v1/embeddings", {"json": {"input": "a train", "colour": 1}}),
    ("POST", "/v1/embeddings", {"json": {"input": {"a": 1}}}),
    ("POST", "/v1/embeddings", {"json": ["a train"]}),
    ("POST", "/v1/embeddings", {"content": b"{", "headers": {"content-type": "application/json"}}),
    ("POST", "/v1/embeddings", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    ("POST", "/v1/sentiment", {"json": {"input": "a train"}, "headers": {"x-priority": "never"}}),
    ("POST", "/embed", {"json": {"inputs": []}}),
    ("POST", "/embed/", {"json": {"inputs": "a train"}}),
    ("POST", "/v1/classify", {"json": {"query": "a train"}}),
    ("GET", "/v1/embeddings", {}),
    ("PUT", "/v1/embeddings", {"json": {"input": "a train"}}),
    ("POST", "/v1/embeddings?colour=red", {"json": {"input": "a train"}}),
]
# What differs from one request to the next.
UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f-]{27}")
OF_ITS_OWN = {"x-request-id", "date", "server-timing"}


class LongWay:
    """Stands where `DirectRoutes` stands, and knows no route."""

    def __init__(self, application: ASGIApp, **_: Any) -> None:
        self._app = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def told(server: LiveServer, method: str, path: str, **sent: Any) -> tuple[int, bytes, Any]:
    answer = server.client.request(method, path, **sent)
    headers = {
        name: one
        for name, one in answer.headers.items()
        if name not in OF_ITS_OWN and not name.endswith("-time")
    }
    return answer.status_code, UUID.sub(b"an id", answer.content), headers


def counted(server: LiveServer) -> dict[Any, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in server.registry.collect()
        for sample in metric.samples
        if sample.name in ("encserve_requests_total", "encserve_slo_requests_total")
    }


def test_short_way_to_a_route_is_taken_for_nothing_that_shows(
    start_server: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = start_server(cache_bytes=0)
    monkeypatch.setattr(app, "DirectRoutes", LongWay)
    long = start_server(cache_bytes=0)
    long.client.get("/openapi.json")  # as the examples of the other are read from
    asked = [("POST", path, {"json": body}) for path, body, _ in documented_examples(short)]
    for method, path, sent in [*asked, *WRONG]:
        if path == "/v1/feedback":
            continue
        assert told(short, method, path, **sent) == told(long, method, path, **sent), path
    until(lambda: counted(short) == counted(long))


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/sentiment", "/embed", "/v1/classify", "/"])
def test_short_way_is_taken_to_what_is_asked_often(
    start_server: ServerFactory, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """It ends where FastAPI's router would begin."""

    async def never(*_: Any) -> None:
        raise AssertionError("FastAPI's router was asked")

    server = start_server()
    monkeypatch.setattr("starlette.routing.Router.__call__", never)
    assert server.client.post(path, json={}).status_code in (200, 400, 422)
