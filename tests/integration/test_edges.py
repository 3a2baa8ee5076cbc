"""What a connection may do before a request is whole and after its answer is written."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from service.api.protocol import SPARE_CONNECTIONS
from tests.integration.conftest import LiveServer, ServerFactory, live_server, until
from tests.integration.raw_connections import (
    CANARY,
    GET,
    HEAD,
    NO_ROUTE,
    QUICK,
    connected,
    dribble,
    error_of,
    read_all,
    read_error,
)


@pytest.fixture(scope="module")
def quick(tiny_store: Any) -> Iterator[LiveServer]:
    with live_server(tiny_store, max_header_bytes=2048, max_bulk_line_bytes=4096, **QUICK) as one:
        yield one


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff" + CANARY + b"\r\n\r\n",
        CANARY + b" / HTTP/1.1\r\n\r\n",
        b"GET /" + CANARY + b" HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + CANARY + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \x00" + CANARY + b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CANARY + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{" + CANARY + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_gets_an_error_in_our_shape(quick: LiveServer, sent: bytes) -> None:
    with connected(quick) as connection:
        connection.sendall(sent)
        status, error = error_of(read_all(connection))
    assert (status, error["code"]) == (400, "invalid_http")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 3000,
        b"GET / HTTP/1.1\r\nX: " + CANARY * 200,
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, CANARY) for n in range(200)),
        b"GET / HTTP/1.1\r\nX: " + CANARY * 200 + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + CANARY * 40_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + CANARY * 40_000,
    ],
    ids=["path", "open line", "many lines", "whole header", "trailer", "chunk extension"],
)
def test_endless_header_is_refused_at_its_limit(quick: LiveServer, sent: bytes) -> None:
    with connected(quick) as connection:
        connection.sendall(sent)
        status, error = error_of(read_all(connection))
    assert (status, error["code"]) == (431, "header_too_large")
    assert "ENCSERVE_MAX_HEADER_BYTES" in error["message"]


@pytest.mark.parametrize("first", [b"", NO_ROUTE], ids=["new", "kept alive"])
def test_slow_header_gets_408_though_a_byte_comes_now_and_then(
    quick: LiveServer, first: bytes
) -> None:
    with connected(quick) as connection:
        if first:
            connection.sendall(first)
            assert read_error(connection).startswith(b"HTTP/1.1 404 ")
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        status, error = error_of(dribble(connection))
    assert (status, error["code"]) == (408, "header_too_slow")
    assert "ENCSERVE_HEADER_TIMEOUT_S" in error["message"]


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n"])
def test_connection_on_which_nothing_is_asked_is_closed_without_a_word(
    quick: LiveServer, sent: bytes
) -> None:
    with connected(quick) as connection:
        connection.sendall(sent)
        assert read_all(connection) == b""


def test_slow_body_gets_408_and_its_connection_is_closed(quick: LiveServer) -> None:
    with connected(quick) as connection:
        connection.sendall(HEAD + b'Content-Length: 1000\r\n\r\n{"input"')
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_too_slow"' in answer


def test_body_that_keeps_its_pace_has_the_time_that_it_needs(start_server: ServerFactory) -> None:
    server = start_server(body_timeout_s=0.2)
    body = json.dumps({"input": "a" * 40_000}).encode()
    with connected(server) as connection:
        connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:-10])
        # The 40 kB that are there give it more than two seconds.
        connection.settimeout(0.6)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(20)
        connection.sendall(body[-10:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "fault",
    [b"\x00garbage\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"],
    ids=["no request", "body of the next"],
)
def test_request_before_the_fault_is_still_answered(quick: LiveServer, fault: bytes) -> None:
    body = json.dumps({"input": [f"train leaves at {n}" for n in range(1500)]}).encode()
    asked = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with connected(quick) as connection:
        connection.sendall(asked + fault)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b'"object":"embedding"') == 1500
    assert b"invalid_http" not in answer


def test_trailer_is_not_taken_for_a_header(server: LiveServer) -> None:
    bare = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b'{"input":"food"}'
    chunks = b"%x\r\n%s\r\n0\r\nContent-Type: application/json\r\n\r\n" % (len(body), body)
    with connected(server) as connection:
        connection.sendall(bare + chunks)
        assert connection.recv(100).startswith(b"HTTP/1.1 415 ")


def test_connections_over_the_limit_get_503_and_probes_their_answer(
    start_server: ServerFactory,
) -> None:
    server = start_server(max_connections=4)
    with ExitStack() as stack:
        held = [stack.enter_context(connected(server)) for _ in range(4)]
        until(lambda: server.count("encserve_connections") == 4)
        with connected(server) as fifth:
            fifth.sendall(GET)
            status, error = error_of(read_all(fifth))
        assert (status, error["code"]) == (503, "too_many_connections")
        assert "ENCSERVE_MAX_CONNECTIONS" in error["message"]
        with connected(server) as probe:
            probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_all(probe).startswith(b"HTTP/1.1 200 ")
        until(lambda: server.count("encserve_connections") == 4)
        for _ in range(SPARE_CONNECTIONS):
            stack.enter_context(connected(server))
        with connected(server) as beyond:
            # Without being asked: nothing more is read from so many.
            assert error_of(read_all(beyond))[0] == 503
        held[0].sendall(GET)
        assert held[0].recv(100).startswith(b"HTTP/1.1 200 ")


def test_what_was_refused_is_counted_by_its_reason(start_server: ServerFactory) -> None:
    server = start_server()
    with connected(server) as connection:
        connection.sendall(b"\x00")
        read_all(connection)
    assert server.count("encserve_refused_connections_total", reason="invalid_http") == 1
    until(lambda: server.count("encserve_connections") == 0)


def test_request_to_upgrade_is_answered_as_the_plain_one(server: LiveServer) -> None:
    with connected(server) as connection:
        connection.sendall(
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_request_to_upgrade_keeps_its_body_which_is_no_request_of_its_own(
    server: LiveServer,
) -> None:
    """In a packet with its head, or in one that comes later; so Java's client begins."""
    hidden = json.dumps({"input": "the food", "user": "GET /livez HTTP/1.1\r\n\r\n"}).encode()
    head = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    head += b"HTTP2-Settings: AAMAAABk\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    for parts in ((head + hidden,), (head, hidden)):
        with connected(server) as connection:
            for part in parts:
                connection.sendall(part)
                until(lambda: server.count("encserve_connections") == 1)
            last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            connection.sendall(last)
            statuses = re.findall(rb"HTTP/1.1 (\d+) ", read_all(connection))
        assert statuses == [b"200", b"200"]
        until(lambda: server.count("encserve_connections") == 0)


def test_curl_that_asks_for_http_2_is_answered_in_http_1_1(server: LiveServer) -> None:
    command = ["curl", "-s", "--http2", "-w", "%{http_version} %{http_code}", "-o", os.devnull]
    for body in (b'{"input": "the food"}', b'{"input": "%s"}' % (b"the food " * 2000)):
        asked = ["-H", "Content-Type: application/json", "--data-binary", "@-"]
        told = subprocess.run(
            [*command, *asked, f"{server.url}/v1/embeddings"],
            input=body,
            capture_output=True,
            check=True,
            timeout=30,
        )
        assert told.stdout == b"1.1 200"
