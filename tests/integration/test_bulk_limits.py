"""What a bulk stream may take from others: places in the queue, work for leavers, sockets."""

import json
import socket
import threading
import time
from typing import Any

from tests.integration.conftest import LiveServer, ServerFactory
from tests.integration.test_bulk import NDJSON, post, stream


def test_fewer_texts_a_request_than_a_portion_has_fail_no_line(start_server: ServerFactory) -> None:
    server = start_server(max_texts_per_request=10)
    _, summary = post(server, [f"train {n}" for n in range(200)])
    assert (summary["lines"], summary["failed"]) == (200, 0)


def test_streams_leave_room_in_the_queue_for_interactive_requests(
    start_server: ServerFactory,
) -> None:
    server = start_server(max_queue_tokens=2000, workers=1, cache_bytes=0)
    done: list[Any] = []

    def send(first: int) -> None:
        texts: list[object] = [f"the train {first + n} leaves at nine" for n in range(3000)]
        done.append(post(server, texts, dimensions=1))

    streams = [threading.Thread(target=send, args=(10_000 * (n + 1),)) for n in range(6)]
    for one in streams:
        one.start()
    statuses = []
    while any(one.is_alive() for one in streams):
        # Some 400 of the 2,000 tokens: more than full streams would leave.
        answer = server.client.post(
            "/v1/embeddings",
            json={"input": ["a good train leaves"] * 2 + [f"a train {n}" for n in range(70)]},
        )
        statuses.append(answer.status_code)
    for one in streams:
        one.join()
    assert [summary["failed"] for _, summary in done] == [0] * 6
    assert set(statuses) == {200}


def wait_for_end(server: LiveServer, outcome: str) -> None:
    labels = {"endpoint": "/v1/bulk", "model": "embedding", "outcome": outcome}
    give_up_s = time.monotonic() + 20
    while not server.count("encserve_requests_total", **labels):
        assert server.client.get("/livez").status_code == 200
        assert time.monotonic() < give_up_s


def test_next_to_nothing_is_computed_for_a_caller_who_left(start_server: ServerFactory) -> None:
    server = start_server(workers=1, cache_bytes=0)
    lines = 60_000

    def send(client: Any) -> None:
        try:
            for first in range(0, lines, 1000):
                numbers = range(first, first + 1000)
                client.send("".join(f'"train {n} leaves"\n' for n in numbers).encode())
        except OSError:
            pass

    with stream(server.url, "?dimensions=1") as client:
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        answers = client.lines()
        for _ in range(200):
            next(answers)
        computed = server.count("encserve_batch_texts_sum", model="embedding")
        client.socket.shutdown(socket.SHUT_RDWR)
    sender.join()
    wait_for_end(server, "cancelled")
    assert server.count("encserve_batch_texts_sum", model="embedding") - computed < 2000
    # A run that was under way ends after the request that wanted it.
    give_up_s = time.monotonic() + 20
    while server.count("encserve_queue_tokens", model="embedding"):
        assert time.monotonic() < give_up_s


def test_socket_of_a_caller_who_does_not_read_is_closed(start_server: ServerFactory) -> None:
    server = start_server(bulk_idle_timeout_s=0.5)
    line = b'{"input":"the food","id":"' + b"x" * 1000 + b'"}\n'
    with stream(server.url) as client:
        client.socket.settimeout(10)
        ended = ""
        try:
            while True:
                client.send(line * 100)
        except TimeoutError:
            ended = "still open"
        except ConnectionError:
            ended = "closed"
    assert ended == "closed"


def test_large_answers_are_written_in_pieces_that_a_slow_reader_takes_in_time(
    server: LiveServer,
) -> None:
    key = "x" * 60_000
    lines = b"".join(b'{"input":"the food","id":"%s"}\n' % key.encode() for _ in range(20))
    with stream(server.url, "?dimensions=1") as client:
        client.send(lines)
        client.end()
        sizes = list(client.sizes())
    assert sum(sizes) > 20 * len(key)
    assert max(sizes) <= 65_536


def test_compressed_stream_is_refused_at_once(server: LiveServer) -> None:
    headers = NDJSON | {"Content-Encoding": "gzip"}
    response = server.client.post("/v1/bulk", content=b"\x1f\x8b", headers=headers)
    assert response.status_code == 415
    assert json.loads(response.text)["error"]["code"] == "unsupported_media_type"
