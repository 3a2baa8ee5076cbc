"""Streams of lines over real HTTP: order, isolation, back-pressure, and what ends them."""

import asyncio
import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.integration.conftest import LiveServer, Process, ServerFactory

NDJSON = {"Content-Type": "application/x-ndjson"}


def post(server: LiveServer, lines: list[object], **query: Any) -> tuple[list[Any], Any]:
    """All answers and the summary; httpx reads after it has sent, so only for little."""
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    response = server.client.post("/v1/bulk", content=content, headers=NDJSON, params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    *answers, summary = map(json.loads, response.text.splitlines())
    return answers, summary


class Stream:
    """A client that sends and reads at once, by hand."""

    def __init__(self, url: str, query: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), 30)
        head = (
            f"POST /v1/bulk{query} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            "Content-Type: application/x-ndjson\r\n\r\n"
        )
        self.socket.sendall(head.encode())
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def lines(self) -> Iterator[Any]:
        """The answers as they come."""
        rest = b""
        for chunk in self._chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from map(json.loads, whole)

    def sizes(self) -> Iterator[int]:
        """Of the pieces in which the server writes."""
        return map(len, self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        while (self._file.readline()) not in (b"\r\n", b""):
            pass
        while size := int(self._file.readline() or b"0", 16):
            yield self._file.read(size)
            self._file.readline()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextmanager
def stream(url: str, query: str = "") -> Iterator[Stream]:
    opened = Stream(url, query)
    try:
        yield opened
    finally:
        opened.close()


def test_lines_are_answered_as_the_other_routes_answer(server: LiveServer) -> None:
    texts = ["the food", "a good train", "the train " * 50]
    vectors, summary = post(server, [*texts])
    own = server.client.post("/v1/embeddings", json={"input": texts}).json()
    for entry, expected in zip(vectors, own["data"], strict=True):
        assert entry["embedding"] == pytest.approx(expected["embedding"], abs=1e-6)
        assert (entry["index"], entry["truncated"]) == (expected["index"], expected["truncated"])
    tokens = own["usage"]["total_tokens"]
    assert summary == {"object": "bulk.summary", "lines": 3, "failed": 0, "tokens": tokens}
    labels, _ = post(server, [*texts], model="sentiment", top_k=1)
    moods = server.client.post("/v1/classify", json={"input": texts, "top_k": 1}).json()["data"]
    for entry, mood in zip(labels, moods, strict=True):
        assert entry["label"] == mood["label"]
        assert entry["scores"] == pytest.approx(mood["scores"], abs=1e-6)


def test_ids_come_back_and_options_hold_for_every_line(server: LiveServer) -> None:
    lines = [
        {"input": "a", "id": "first"},
        {"input": "b", "id": 7},
        "c",
        {"input": "d", "id": None},
    ]
    answers, _ = post(server, lines, dimensions=4, encoding_format="int8")
    assert [answer["id"] for answer in answers] == ["first", 7, None, None]
    assert {len(answer["embedding"]) for answer in answers} == {4}
    assert {type(number) for answer in answers for number in answer["embedding"]} == {int}


def test_line_at_fault_fails_alone(start_server: ServerFactory) -> None:
    server = start_server(max_bulk_line_bytes=1000)
    canary = "Zanzibar"
    lines = [
        b'"the food"',
        b"{" + canary.encode(),
        b'" "',
        b"",
        b'{"input": 5, "id": "x"}',
        b'{"input": "a", "id": [1]}',
        b'"' + b"a" * 2000 + b'"',
        b"\xff\xfe",
        b'"\\ud800"',
        b'"good"',
    ]
    response = server.client.post("/v1/bulk", content=b"\n".join(lines), headers=NDJSON)
    *answers, summary = map(json.loads, response.text.splitlines())
    assert [answer["index"] for answer in answers] == list(range(9))
    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert codes == [
        *(None, "invalid_field", "blank_text", "invalid_field", "invalid_field"),
        *("text_too_long", "invalid_field", "invalid_field", None),
    ]
    assert canary not in response.text
    assert (summary["lines"], summary["failed"]) == (9, 7)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"params": {"model": "nothing"}}, 404),
        ({"params": {"dimensions": 99}}, 400),
        ({"params": {"dimensions": "many"}}, 400),
        ({"params": {"prompt_name": "nothing"}}, 400),
        ({"params": {"unknown": 1}}, 400),
        ({"headers": {"Content-Type": "application/json"}}, 415),
        ({"headers": NDJSON | {"X-Expected-Version": "9"}}, 409),
    ],
    ids=str,
)
def test_what_no_line_could_mend_is_refused_at_once(
    server: LiveServer, change: dict[str, Any], status: int
) -> None:
    response = server.client.post("/v1/bulk", content=b'"a"\n', **({"headers": NDJSON} | change))
    assert response.status_code == status
    assert set(response.json()["error"]) == {"code", "message", "param", "type"}


def test_many_lines_are_answered_once_each_in_order_beside_other_callers(
    start_server: ServerFactory,
) -> None:
    server = start_server(max_queue_tokens=2000)
    count = 20_000
    with stream(server.url, "?dimensions=2") as client:

        def send() -> None:
            for start in range(0, count, 500):
                numbers = range(start, start + 500)
                client.send(
                    "".join(f'{{"input":"train {n % 97}","id":{n}}}\n' for n in numbers).encode()
                )
            client.end()

        sender = threading.Thread(target=send)
        sender.start()
        seen = 0
        for answer in client.lines():
            if answer.get("object") == "bulk.summary":
                assert (answer["lines"], answer["failed"]) == (count, 0)
                break
            assert (answer["index"], answer["id"]) == (seen, seen)
            assert "embedding" in answer
            seen += 1
            if seen % 4000 == 0:
                assert server.client.post("/v1/embeddings", json={"input": "a"}).status_code == 200
        sender.join()
    assert seen == count


def test_each_line_is_answered_before_the_next_is_sent(server: LiveServer) -> None:
    with stream(server.url, "?dimensions=1") as client:
        answers = client.lines()
        for index in range(5):
            client.send(b'"train %d"\n' % index)
            assert next(answers)["index"] == index
        client.end()
        assert next(answers)["lines"] == 5


def test_caller_that_does_not_read_is_not_read_from(start_server: ServerFactory) -> None:
    server = start_server()
    line = b'{"input":"the train leaves at nine","id":"' + b"x" * 400 + b'"}\n'
    with stream(server.url) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        client.socket.settimeout(1.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200_000_000:
                client.send(line * 200)
                sent += len(line) * 200
    # What the sockets of both sides and the few lines in work hold, and no more.
    assert sent < 50_000_000


def test_stream_that_stands_still_is_ended(start_server: ServerFactory) -> None:
    server = start_server(bulk_idle_timeout_s=0.5)
    with stream(server.url) as client:
        client.send(b'"the food"\n')
        answer, summary = client.lines()
        assert answer["index"] == 0
        assert summary["error"]["code"] == "body_too_slow"
        assert summary["lines"] == 1


def test_caller_who_leaves_frees_the_queue(start_server: ServerFactory) -> None:
    server = start_server(workers=1)
    with stream(server.url) as client:
        client.send("".join(f'"train {n} leaves"\n' for n in range(3000)).encode())
        answers = client.lines()
        next(answers)
    ended = {"endpoint": "/v1/bulk", "model": "embedding", "outcome": "cancelled"}
    for _ in range(2000):
        if server.count("encserve_requests_total", **ended):
            break
        server.client.get("/livez")
    assert server.count("encserve_requests_total", **ended) == 1
    assert server.count("encserve_queue_tokens", model="embedding") == 0


def test_stop_in_the_middle_answers_what_was_taken_and_says_so(process: Process) -> None:
    url = process.announced().group(1)
    with stream(url) as client:
        answers = client.lines()
        client.send(b'"the food"\n')
        assert next(answers)["index"] == 0
        ending = threading.Thread(target=process.end, args=(signal.SIGTERM,))
        ending.start()
        last = list(answers)[-1]
        ending.join()
    assert (last["object"], last["lines"], last["error"]["code"]) == (
        *("bulk.summary", 1, "shutting_down"),
    )
    assert process.popen.returncode == 0


def test_queue_without_room_delays_lines_and_fails_none(start_server: ServerFactory) -> None:
    server = start_server(max_queue_tokens=400, workers=1)

    async def beside() -> list[int]:
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
            body = {"input": [f"a {n}" for n in range(30)]}
            found = [await client.post("/v1/embeddings", json=body) for _ in range(20)]
            return [response.status_code for response in found]

    done: list[Any] = []
    texts: list[object] = [f"the train {n} leaves" for n in range(1500)]
    worker = threading.Thread(target=lambda: done.append(post(server, texts)))
    worker.start()
    assert set(asyncio.run(beside())) == {200}
    worker.join()
    answers, summary = done[0]
    assert (summary["lines"], summary["failed"]) == (1500, 0)
    assert np.isfinite([answer["embedding"] for answer in answers]).all()
