"""Connections on which anything may be sent, and what comes back."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.conftest import LiveServer

CANARY = b"xyzzy-canary-7391"
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
NO_ROUTE = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
# Sixteen times the least that must be taken.
PACE_BYTES_A_SECOND = 2**18
QUICK = {"header_timeout_s": 0.3, "body_timeout_s": 0.3, "write_timeout_s": 0.3}


@contextmanager
def connected(server: LiveServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := connection.recv(1 << 16):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def read_error(connection: socket.socket) -> bytes:
    """An error, after which the connection stays open."""
    received = b""
    while not received.endswith(b"}}"):
        received += connection.recv(1 << 16)
    return received


def dribble(connection: socket.socket) -> bytes:
    """A byte now and then, until the server ends the connection; what it says meanwhile."""
    connection.settimeout(0.05)
    give_up_s = time.monotonic() + 10
    received = b""
    while True:
        connection.sendall(b"x")
        try:
            part = connection.recv(1 << 16)
        except TimeoutError:
            assert time.monotonic() < give_up_s
            continue
        if not part:
            return received
        received += part


def send_without_end(connection: socket.socket, asked: bytes) -> None:
    """More than the answers to it find room for in the buffers of the system."""
    while True:
        connection.sendall(asked)


def error_of(answer: bytes) -> tuple[int, dict[str, Any]]:
    """Status and error of an answer that is whole, JSON, short, and repeats nothing."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert f"content-length: {len(body)}".encode() in head
    assert len(answer) < 4096
    assert CANARY not in answer
    return int(head.split()[1]), json.loads(body)["error"]
