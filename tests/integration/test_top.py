"""`encserve top` against a live server."""

import os
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest
import typer
from typer.testing import CliRunner

from service.cli import app, top
from service.errors import KeysInvalid
from tests.integration.conftest import ENCSERVE, LiveServer, ServerFactory


def test_one_frame_shows_what_was_answered_meanwhile(server: LiveServer) -> None:
    done = threading.Event()

    def ask() -> None:
        number = 0
        while not done.is_set():
            server.client.post("/v1/embeddings", json={"input": f"the train at {number}"})
            number += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        shown = subprocess.run(
            [*ENCSERVE, "top", server.url, "--once", "--interval", "1"],
            env=os.environ | {"COLUMNS": "160"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
    finally:
        done.set()
        asking.join()
    assert server.url in shown
    rows = {line.split()[1]: line.split("│") for line in shown.splitlines() if "@1 fp32" in line}
    assert rows.keys() == {"embedding@1", "sentiment@1"}
    _, texts, tokens, p50, p99, *_ = rows["embedding@1"][1:]
    assert float(texts) > 0
    assert float(tokens) > float(texts)
    assert 0 < float(p50) <= float(p99)
    # Nobody asked the other model: its latency is not known.
    assert rows["sentiment@1"][4].strip() == "-"


def test_no_server_is_one_clear_line() -> None:
    with socket.socket() as silent:
        # Bound, but nobody listens.
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        asked = subprocess.run(
            [*ENCSERVE, "top", url, "--once"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert asked.returncode == 1
    assert asked.stderr.startswith(f"no metrics at {url}/metrics: ")
    assert asked.stderr.count("\n") == 1


class Stranger(socketserver.StreamRequestHandler):
    """Answers to a request line, and not as a server of HTTP would."""

    answer: ClassVar[bytes]

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(self.answer)


@pytest.fixture
def stranger() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example ready\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
@pytest.mark.parametrize("command", [["top", "--once"], ["promote", "mood", "--server"]])
def test_server_that_is_no_encserve_is_one_sentence(
    stranger: str, answer: bytes, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stranger, "answer", answer, raising=False)
    # A process of its own: urllib leaves the socket of a broken answer open, of which Python warns.
    asked = subprocess.run(
        [*ENCSERVE, *command, f"http://{stranger}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert asked.returncode == 1
    assert asked.stderr.count("\n") == 1
    assert "half" not in asked.stderr


@pytest.mark.parametrize("command", [["top", "--once"], ["promote", "mood", "--server"]])
def test_password_in_an_address_is_not_shown(stranger: str, command: list[str]) -> None:
    asked = CliRunner().invoke(app, [*command, f"http://me:hush@{stranger}"])
    assert asked.exit_code == 1
    assert f"http://***@{stranger}" in asked.stderr
    assert "hush" not in asked.stderr


def test_digest_of_the_key_of_metrics_is_no_key_to_ask_with() -> None:
    environment = {"ENCSERVE_METRICS_KEY": f"sha256:{'0' * 64}"}
    asked = CliRunner().invoke(app, ["top", "--once"], env=environment)
    assert isinstance(asked.exception, KeysInvalid)


def test_address_that_is_no_url_and_page_of_another_server_are_refused(server: LiveServer) -> None:
    with pytest.raises(typer.BadParameter):
        top.top("127.0.0.1:8080")
    with pytest.raises(ValueError, match="live") as refused:
        top.scrape(f"{server.url}/livez")
    assert "live" not in top.told(refused.value)


def test_metrics_behind_a_key_are_read_with_it(start_server: ServerFactory) -> None:
    server = start_server(metrics_key="hush").url
    told = [server, "--once", "--interval", "0.1"]
    asked = CliRunner().invoke(app, ["top", *told], env={"ENCSERVE_METRICS_KEY": "hush"})
    assert asked.exit_code == 0, asked.output
    asked = CliRunner().invoke(app, ["top", *told])
    assert "status 401: set ENCSERVE_METRICS_KEY to the server's key" in asked.stderr
