"""Many callers at once: nobody gets another's answer, and the metrics agree with what was sent."""

import asyncio
import json
import socket
import time
from collections import Counter, defaultdict

import httpx2
import numpy as np
import pytest

from tests.integration.conftest import LiveServer, ServerFactory, until

WORDS = ["the", "a", "not", "good", "bad", "train", "leaves", "at", "nine", "food"]


def text_of(number: int) -> str:
    """A different text for each number below 10,000, of 4 to 8 words."""
    words = [WORDS[int(digit)] for digit in f"{number:04d}"]
    return " ".join(words + words[: number % 5])


def texts_of(number: int) -> list[str]:
    """One to four texts; the next numbers ask for some of them again."""
    return [text_of(number + offset) for offset in range(1 + number % 4)]


async def call(client: httpx2.AsyncClient, number: int) -> tuple[int, httpx2.Response]:
    route = ("/v1/embeddings", "/v1/sentiment")[number % 2]
    return number, await client.post(route, json={"input": texts_of(number)})


async def storm(
    server: LiveServer, requests: int, clients: int
) -> list[tuple[int, httpx2.Response]]:
    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:
        return await asyncio.gather(*(call(client, number) for number in range(requests)))


def test_metrics_agree_exactly_with_what_was_sent(start_server: ServerFactory) -> None:
    server = start_server()
    answers = asyncio.run(storm(server, requests=400, clients=32))
    sent: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    distinct: defaultdict[str, set[str]] = defaultdict(set)
    for number, response in answers:
        assert response.status_code == 200, response.text
        answer = response.json()
        model = answer["model"]
        distinct[model].update(texts_of(number))
        sent[model] += 1
        texts[model] += len(answer["data"])
        tokens[model] += answer["usage"]["total_tokens"]
        labels.update(entry["label"] for entry in answer["data"] if "label" in entry)
    routes = {"embedding": "/v1/embeddings", "sentiment": "/v1/sentiment"}
    for model, route in routes.items():
        request = {"endpoint": route, "model": model}
        assert server.count("encserve_requests_total", **request, outcome="ok") == sent[model]
        assert server.count("encserve_request_duration_seconds_count", **request) == sent[model]
        stage = {"model": model, "stage": "tokenize"}
        assert server.count("encserve_stage_duration_seconds_count", **stage) == sent[model]
        stage = {"model": model, "stage": "queue"}
        by_source = {
            source: server.count("encserve_texts_total", model=model, source=source)
            for source in ("computed", "in_flight", "cached")
        }
        assert sum(by_source.values()) == texts[model]
        computed = by_source["computed"]
        assert computed == len(distinct[model])
        assert server.count("encserve_stage_duration_seconds_count", **stage) == computed
        assert server.count("encserve_batch_texts_sum", model=model) == computed
        assert 0 < server.count("encserve_batch_tokens_sum", model=model) <= tokens[model]
        assert server.count("encserve_queue_texts", model=model) == 0
        assert server.count("encserve_queue_tokens", model=model) == 0
    for label, count in labels.items():
        predicted = {"model": "sentiment", "label": label}
        assert server.count("encserve_predictions_total", **predicted) == count


def test_every_caller_gets_the_vector_of_its_own_text(server: LiveServer) -> None:
    answers = asyncio.run(storm(server, requests=200, clients=32))
    for number, response in answers[::2]:
        found = [entry["embedding"] for entry in response.json()["data"]]
        texts = texts_of(number)
        alone = [
            server.client.post("/v1/embeddings", json={"input": text}).json()["data"][0]
            for text in texts
        ]
        assert np.array(found) == pytest.approx(
            np.array([entry["embedding"] for entry in alone]), abs=1e-6
        )


def test_errors_are_counted_by_code_and_unknown_paths_share_one_series(
    start_server: ServerFactory,
) -> None:
    server = start_server()
    for number in range(5):
        server.client.post("/v1/embeddings", json={"input": ""})
        server.client.get(f"/no/such/route/{number}")
    bad = {"endpoint": "/v1/embeddings", "model": "embedding", "outcome": "blank_text"}
    assert server.count("encserve_requests_total", **bad) == 5
    lost = {"endpoint": "other", "model": "", "outcome": "unknown_route"}
    until(lambda: server.count("encserve_requests_total", **lost) == 5)


def test_full_queue_answers_429_with_retry_after_and_serves_the_rest(
    start_server: ServerFactory,
) -> None:
    server = start_server(max_queue_tokens=128, workers=1)

    async def flood() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
            bodies = [{"input": [f"train {12 * n + m}" for m in range(12)]} for n in range(150)]
            return await asyncio.gather(*(client.post("/v1/embeddings", json=b) for b in bodies))

    responses = asyncio.run(flood())
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) == {200, 429}
    for response in responses:
        if response.status_code == 429:
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "overloaded"
    refused = {"model": "embedding", "reason": "overloaded"}
    assert server.count("encserve_rejected_requests_total", **refused) == statuses[429]


def test_deadline_answers_504_and_computes_nothing_for_those_it_gave_up(
    start_server: ServerFactory,
) -> None:
    server = start_server(request_timeout_s=1e-4)
    body = json.dumps({"input": [f"train {number}" for number in range(500)]}).encode()
    head = (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        # In one piece: the same time is given to a body to arrive.
        connection.sendall(head + body)
        answer = b""
        while not answer.endswith(b"}}") and (received := connection.recv(65536)):
            answer += received
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"deadline_exceeded" in answer
    assert server.client.get("/readyz").status_code == 200
    assert server.count("encserve_batch_texts_sum", model="embedding") < 500


def test_caller_who_leaves_is_counted_as_cancelled_and_harms_nobody(
    start_server: ServerFactory,
) -> None:
    server = start_server(workers=1)
    body = b'{"input": [' + b",".join(b'"train %d"' % n for n in range(2000)) + b"]}"
    head = (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + body)
    wait_until_counted(server, model="embedding", outcome="cancelled")
    assert server.client.post("/v1/embeddings", json={"input": "the food"}).status_code == 200
    assert server.count("encserve_queue_tokens", model="embedding") == 0
    assert server.count("encserve_batch_texts_sum", model="embedding") < 2001


def test_caller_who_leaves_in_the_middle_of_its_body_is_no_error(
    start_server: ServerFactory,
) -> None:
    server = start_server()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"input"'
        )
    wait_until_counted(server, model="", outcome="cancelled")
    failed = {"endpoint": "/v1/embeddings", "model": "", "outcome": "internal_error"}
    assert server.count("encserve_requests_total", **failed) == 0


def wait_until_counted(server: LiveServer, **labels: str) -> None:
    """Ask the server this and that until it has counted such a request to /v1/embeddings."""
    give_up_s = time.monotonic() + 20
    while not server.count("encserve_requests_total", endpoint="/v1/embeddings", **labels):
        assert server.client.get("/livez").status_code == 200
        assert time.monotonic() < give_up_s
