"""How many bytes of bodies are held at a time, whoever sends them and however slowly."""

import gzip
import json
import socket

import httpx2

from tests.integration.conftest import LiveServer, ServerFactory, until
from tests.integration.test_bulk import post

# Of this size each body is fine, and no two fit.
MAX_BODIES_BYTES = 1500
BODY_BYTES = 900


def held(server: LiveServer) -> float:
    return server.count("encserve_bodies_bytes")


def ask(server: LiveServer, text: str) -> httpx2.Response:
    return server.client.post("/v1/sentiment", json={"input": text})


def unfinished(server: LiveServer, body_bytes: int) -> socket.socket:
    """A connection that sends so much of a longer body, and no more."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(
        b"POST /v1/sentiment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n" + b" " * body_bytes
    )
    return connection


def small_room(start_server: ServerFactory) -> LiveServer:
    return start_server(max_body_bytes=1000, max_bodies_bytes=MAX_BODIES_BYTES)


def test_body_that_finds_no_room_is_refused_until_there_is_some(
    start_server: ServerFactory,
) -> None:
    server = small_room(start_server)
    with unfinished(server, BODY_BYTES):
        until(lambda: held(server) == BODY_BYTES)
        refused = ask(server, "x" * BODY_BYTES)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "overloaded"
        assert "ENCSERVE_MAX_BODIES_BYTES" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) >= 1
        assert ask(server, "short").status_code == 200
    until(lambda: held(server) == 0)
    assert ask(server, "x" * BODY_BYTES).status_code == 200


def test_body_that_is_only_announced_takes_no_room(start_server: ServerFactory) -> None:
    server = small_room(start_server)
    with unfinished(server, 0), unfinished(server, 0):
        assert ask(server, "x" * BODY_BYTES).status_code == 200


def test_body_counts_as_large_as_it_is_unpacked(start_server: ServerFactory) -> None:
    server = small_room(start_server)
    request = {
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x" * BODY_BYTES]}]
    }
    packed = gzip.compress(json.dumps(request).encode())
    assert len(packed) < 200

    def infer() -> int:
        return server.client.post(
            "/v2/models/sentiment/infer", content=packed, headers={"Content-Encoding": "gzip"}
        ).status_code

    assert infer() == 200
    with unfinished(server, BODY_BYTES):
        until(lambda: held(server) == BODY_BYTES)
        assert infer() == 429
    until(lambda: held(server) == 0)


def test_stream_larger_than_the_room_passes_through(start_server: ServerFactory) -> None:
    server = small_room(start_server)
    _, summary = post(server, [f"the train {number}" for number in range(500)])
    assert (summary["lines"], summary["failed"]) == (500, 0)
    until(lambda: held(server) == 0)
