"""A stop in order: readiness first, then a while of serving on, then the port, then the end."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.integration.conftest import Process, until
from tests.integration.test_process import large_request, read_all

# Longer than any test: what ends such a server is the second signal.
LONG_S = "60"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Leaving:
    """A server that has got SIGTERM and serves on; `idle` was answered before."""

    url: str
    process: Process
    idle: socket.socket


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=20)


def not_ready(url: str) -> bool:
    return httpx2.get(f"{url}/readyz").status_code == 503


def listening(url: str) -> bool:
    try:
        connect(url).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def leaving(tiny_store: Path) -> Iterator[Leaving]:
    process = Process(tiny_store, os.environ | {"ENCSERVE_DRAIN_S": LONG_S})
    try:
        url = process.announced()[1]
        with connect(url) as idle:
            idle.sendall(LIVEZ)
            answer = b""
            while not answer.endswith(b"}"):
                answer += idle.recv(4096)
            assert b"connection: close" not in answer
            process.popen.send_signal(signal.SIGTERM)
            until(lambda: not_ready(url))
            yield Leaving(url, process, idle)
    finally:
        process.close()


@pytest.mark.parametrize(
    "path", ["/readyz", "/health", "/v2/health/ready", "/v2/models/sentiment/ready"]
)
def test_leaving_server_is_not_ready_by_any_probe(leaving: Leaving, path: str) -> None:
    assert httpx2.get(f"{leaving.url}{path}").status_code == 503


def test_leaving_server_is_live_and_answers_new_connections_and_closes_each(
    leaving: Leaving,
) -> None:
    assert httpx2.get(f"{leaving.url}/livez").status_code == 200
    for text, status in (("good", 200), ("", 400)):
        answer = httpx2.post(f"{leaving.url}/v1/sentiment", json={"input": text})
        assert (answer.status_code, answer.headers["connection"]) == (status, "close")


def test_connection_that_was_idle_at_sigterm_gets_one_more_answer_and_is_told_to_go(
    leaving: Leaving,
) -> None:
    leaving.idle.sendall(LIVEZ)
    answer = read_all(leaving.idle)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_second_sigterm_ends_the_process_at_once(leaving: Leaving) -> None:
    """The last of this server's tests."""
    with large_request(leaving.url):
        sent_s = time.monotonic()
        assert leaving.process.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert time.monotonic() - sent_s < 5
    assert "second signal" in leaving.process.output
    assert "Traceback" not in leaving.process.output


def test_all_accepted_while_leaving_is_answered_then_the_port_closes_and_the_end_is_0(
    tiny_store: Path,
) -> None:
    drain_s = 2.0
    slow = {"ENCSERVE_MAX_BATCH_TOKENS": "32", "ENCSERVE_WORKERS": "1"}
    slow["ENCSERVE_SHUTDOWN_GRACE_S"] = "120"
    process = Process(tiny_store, os.environ | slow | {"ENCSERVE_DRAIN_S": str(drain_s)})
    try:
        url = process.announced()[1]
        process.popen.send_signal(signal.SIGTERM)
        sent_s = time.monotonic()
        until(lambda: not_ready(url))
        with large_request(url) as late:
            until(lambda: not listening(url))
            assert time.monotonic() - sent_s > drain_s - 0.2
            answer = read_all(late)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b'"object":"embedding"') == 2000
        assert process.popen.wait(timeout=60) == 0
    finally:
        process.close()
