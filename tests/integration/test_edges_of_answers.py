"""Bodies that come after their answer, stray bytes, and callers who do not read."""

import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import LiveServer, live_server
from tests.integration.raw_connections import (
    HEAD,
    PACE_BYTES_A_SECOND,
    QUICK,
    connected,
    dribble,
    read_all,
    read_error,
    send_without_end,
)


@pytest.fixture(scope="module")
def quick(tiny_store: Any) -> Iterator[LiveServer]:
    with live_server(tiny_store, max_header_bytes=2048, max_bulk_line_bytes=4096, **QUICK) as one:
        yield one


NOWHERE = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"


def test_body_that_comes_after_its_answer_costs_nobody_the_connection(quick: LiveServer) -> None:
    with connected(quick) as connection:
        for _ in range(3):
            connection.sendall(NOWHERE)
            assert read_error(connection).startswith(b"HTTP/1.1 404 ")
            connection.sendall(b"123456789")
        # Nothing more is asked: closed as a connection on which nothing was.
        assert read_all(connection) == b""


def test_answer_comes_in_one_piece(quick: LiveServer) -> None:
    """In two, its caller is woken twice, and has half of it if the process dies between them."""
    body = b'{"input": "the food"}'
    with connected(quick) as connection:
        for _ in range(50):
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            head, _, answer = connection.recv(1 << 16).partition(b"\r\n\r\n")
            assert f"content-length: {len(answer)}".encode() in head.split(b"\r\n")


def test_body_that_does_not_come_after_its_answer_ends_the_connection(quick: LiveServer) -> None:
    with connected(quick) as connection:
        connection.sendall(NOWHERE.replace(b"9", b"9000"))
        assert dribble(connection).startswith(b"HTTP/1.1 404 ")


def test_answer_before_the_body_reaches_a_caller_who_wants_the_connection_closed(
    quick: LiveServer,
) -> None:
    """Closed at once, it would be reset by what still comes."""
    body = b"x" * 200_000
    asked = NOWHERE.replace(b"9", str(len(body)).encode())
    with connected(quick) as connection:
        connection.sendall(asked.replace(b"Host", b"Connection: close\r\nHost"))
        select.select([connection], [], [], 20)
        for start in range(0, len(body), 10_000):
            connection.sendall(body[start : start + 10_000])
        received = b""
        while chunk := connection.recv(1 << 16):
            received += chunk
    assert received.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close\r\n" in received


def test_stray_bytes_behind_a_request_do_not_cost_it_its_answer(quick: LiveServer) -> None:
    """It takes longer than the header of a next one may, which those bytes could begin."""
    body = json.dumps({"input": [f"{'train ' * 400}{n}" for n in range(1000)]}).encode()
    with connected(quick) as connection:
        connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        connection.sendall(b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_answer_that_nobody_reads_is_given_up(quick: LiveServer) -> None:
    before = quick.count("encserve_refused_connections_total", reason="reader_too_slow")
    body = json.dumps({"input": [f"train {n}" for n in range(2000)]}).encode()
    asked = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", quick.port))
        with pytest.raises(ConnectionError):
            send_without_end(connection, asked)
    after = quick.count("encserve_refused_connections_total", reason="reader_too_slow")
    assert after == before + 1


def test_answer_that_is_read_slowly_but_at_pace_is_not_cut_off(quick: LiveServer) -> None:
    """It takes several times as long as a reader may stall."""
    body = json.dumps({"input": [f"train {n}" for n in range(2000)]}).encode()
    received = b""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", quick.port))
        connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        began_s = time.monotonic()
        while received.count(b'"object":"embedding"') < 2000:
            received += connection.recv(16 * 2**10)
            pause = max(0.0, len(received) / PACE_BYTES_A_SECOND - (time.monotonic() - began_s))
            # Nothing else is to happen meanwhile: a slow reader does nothing.
            threading.Event().wait(pause)
    assert time.monotonic() - began_s > 3 * QUICK["write_timeout_s"]
