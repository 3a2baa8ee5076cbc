"""Who is let in, and what a key may take, over HTTP in every dialect."""

import hashlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.integration.conftest import (
    LiveServer,
    ServerFactory,
    documented_examples,
    live_server,
    until,
)

KEY, SLOW, ADMIN, METRICS = "enc-canary-web", "enc-canary-slow", "enc-canary-adm", "enc-canary-mtr"
SECRETS = (KEY, SLOW, ADMIN, METRICS)
OPEN = (
    *("/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready", "/"),
    *("/playground/app.js", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"),
)
TEXT = "the food is good"
TOKENS = 7


def line(name: str, key: str, rest: str = "") -> str:
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}{rest}"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[LiveServer]:
    keys = f"{line('web', KEY)},{line('slow', SLOW, f':{3 * TOKENS}')}"
    with live_server(tiny_store, api_keys=keys, admin_key=ADMIN, metrics_key=METRICS) as running:
        yield running


def test_no_route_but_the_open_ones_answers_without_a_valid_key(server: LiveServer) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    assert len(paths) > 30
    asked = [(method, path) for path, methods in paths.items() for method in methods]
    asked += [("get", "/nothing"), ("post", "/"), ("options", "/v1/embeddings")]
    for headers in ({}, bearer("wrong"), bearer(ADMIN), {"x-api-key": "wrong"}):
        for method, path in asked:
            if path in OPEN and (method, path) != ("post", "/"):
                continue
            if path.startswith("/admin") and headers == bearer(ADMIN):
                continue
            response = server.client.request(method, path, headers=headers, content=b"{")
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"] == "Bearer"
            assert len(response.content) < 1024
    for path in OPEN:
        assert server.client.get(path).status_code == 200, path
        assert server.client.head(path).status_code in (200, 405), path


def test_every_dialect_refuses_in_its_own_shape(server: LiveServer) -> None:
    def refused(path: str) -> Any:
        return server.client.post(path, json={"input": TEXT}, headers=bearer("wrong")).json()

    told = refused("/v1/embeddings")["error"]
    assert (told["code"], told["type"]) == ("unauthorized", "invalid_request_error")
    assert refused("/v2/embed")["error"]["code"] == "unauthorized"
    assert refused("/embed").keys() == {"error", "error_type"}
    assert refused("/").keys() == {"error", "error_type"}
    assert refused("/v2/models/embedding/infer").keys() == {"error"}
    assert isinstance(refused("/v2/models/embedding/infer")["error"], str)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError):
        client.embeddings.create(input=TEXT, model="embedding")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY) as allowed:
        assert allowed.embeddings.create(input=TEXT, model="embedding").usage.total_tokens == TOKENS


def spent(server: LiveServer) -> float:
    """Tokens of the key of all those who have been answered; counted after the answer."""
    return server.registry.get_sample_value("encserve_key_tokens_total", {"key": "web"}) or 0


def test_every_documented_example_is_answered_with_a_key_and_charged(server: LiveServer) -> None:
    # What neither runs a model nor asks one.
    free = ("/tokenize", "/decode", "/v1/feedback")
    for path, body, _ in documented_examples(server):
        before = spent(server)
        response = server.client.post(path, json=body, headers={"x-api-key": KEY})
        # The tiny model has fewer ids than the one that the example is for.
        assert response.status_code == (422 if path == "/decode" else 200), (path, response.text)
        if path in free:
            assert spent(server) == before, path
        else:
            until(lambda before=before: spent(server) > before)  # type: ignore[misc]
    before = spent(server)
    lines = f'"{TEXT}"\n"{TEXT}"\n'
    headers = {**bearer(KEY), "Content-Type": "application/x-ndjson"}
    assert server.client.post("/v1/bulk", content=lines, headers=headers).status_code == 200
    until(lambda: spent(server) - before == 2 * TOKENS)


def test_labels_in_the_callers_own_words_are_charged_beside_the_text(server: LiveServer) -> None:
    before = spent(server)
    body = {"input": TEXT, "candidate_labels": ["food", "train"]}
    answer = server.client.post("/v1/classify", json=body, headers=bearer(KEY))
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["total_tokens"] == TOKENS
    until(lambda: spent(server) - before > TOKENS)


def test_a_key_over_its_rate_is_told_when_to_come_back(server: LiveServer) -> None:
    def ask() -> httpx2.Response:
        return server.client.post("/embed", json={"inputs": TEXT}, headers=bearer(SLOW))

    first = ask()
    assert first.headers["x-ratelimit-limit-tokens"] == str(3 * TOKENS)
    assert first.headers["x-ratelimit-remaining-tokens"] == str(2 * TOKENS)
    assert 19_000 < int(first.headers["x-ratelimit-reset-tokens"].removesuffix("ms")) <= 20_000
    answers = [ask() for _ in range(5)]
    assert [one.status_code for one in answers] == [200, 200, 429, 429, 429]
    assert answers[-1].json()["error_type"] == "Overloaded"
    assert 10 <= int(answers[-1].headers["retry-after"]) <= 20
    own = server.client.post("/v1/embeddings", json={"input": TEXT}, headers=bearer(SLOW))
    assert own.json()["error"]["code"] == "rate_limit_exceeded"
    assert own.json()["error"]["type"] == "rate_limit_error"
    # The others do not notice, and the server's objectives have no part in it.
    other = server.client.post("/embed", json={"inputs": TEXT}, headers=bearer(KEY))
    assert other.status_code == 200
    assert "x-ratelimit-limit-tokens" not in other.headers
    refused = {"key": "slow", "reason": "rate"}
    assert server.registry.get_sample_value("encserve_key_refusals_total", refused) == 4
    until(
        lambda: server.count("encserve_slo_requests_total", model="embedding", fault="caller") > 3
    )
    assert server.count("encserve_slo_requests_total", model="embedding", fault="server") == 0


def test_metrics_and_administration_take_their_own_key_alone(server: LiveServer) -> None:
    for path, key in (("/metrics", METRICS), ("/admin/models", ADMIN)):
        allowed = [
            server.client.get(path, headers=headers).status_code
            for headers in ({}, bearer(KEY), bearer(key), {"x-api-key": key})
        ]
        assert allowed == [401, 401, 200, 200]
    assert 'encserve_key_requests_total{key="web"}' in (
        server.client.get("/metrics", headers=bearer(METRICS)).text
    )


def test_the_keys_name_is_in_the_line_of_its_request(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        server.client.post("/v1/embeddings", json={"input": TEXT}, headers=bearer(KEY))
        until(lambda: any(vars(one).get("fields", {}).get("key") for one in caplog.records))
    told = [vars(one)["fields"] for one in caplog.records if "fields" in vars(one)]
    assert [one["key"] for one in told if one.get("route") == "/v1/embeddings"] == ["web"]


def test_no_key_is_in_logs_metrics_errors_or_the_pages(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in SECRETS]
    with caplog.at_level(logging.DEBUG):
        told = [
            server.client.request(method, path, headers=headers, json={"input": TEXT}).text
            for key in SECRETS
            for headers in (bearer(key), {"x-api-key": key}, bearer(f"x{key}"))
            for method, path in (
                *(("POST", "/v1/embeddings"), ("POST", "/embed"), ("POST", "/nothing")),
                *(("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json")),
                *(("GET", "/admin/models"), ("POST", "/v2/models/embedding/infer")),
            )
        ]
    shown = "".join(told) + caplog.text
    assert [one for one in (*SECRETS, *digests) if one in shown] == []


def test_a_share_of_the_queue_is_all_that_a_key_may_fill(start_server: ServerFactory) -> None:
    server = start_server(api_keys=line("web", KEY, "::0.01"), max_queue_tokens=1000)
    body = {"input": [TEXT, TEXT]}
    response = server.client.post("/v1/embeddings", json=body, headers=bearer(KEY))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "too_many_tokens")
    bulk = {**bearer(KEY), "Content-Type": "application/x-ndjson"}
    lines = "".join(f'"{TEXT}"\n' for _ in range(20))
    # A stream is slowed down instead: each of its lines is answered.
    answer = server.client.post("/v1/bulk", content=lines, headers=bulk).text.splitlines()
    assert len(answer) == 21
    assert '"failed":0' in answer[-1]


def test_a_request_that_ends_at_its_deadline_costs_nothing(
    start_server: ServerFactory,
) -> None:
    server = start_server(api_keys=line("web", KEY, ":1000000"), max_batch_tokens=1, workers=1)
    headers = bearer(KEY) | {"X-Request-Timeout-Ms": "30"}
    body = {"input": [f"{TEXT} {number}" for number in range(2000)]}
    answer = server.client.post("/v1/embeddings", json=body, headers=headers)
    assert answer.status_code in (429, 504)
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) >= 999_999
    assert server.count("encserve_key_tokens_total", key="web") == 0


def test_feedback_is_taken_from_the_key_that_was_answered_and_no_other(
    start_server: ServerFactory,
) -> None:
    """The id is no proof: a caller may have chosen a plain one."""
    server = start_server(api_keys=f"{line('web', KEY)},{line('other', SLOW)}")
    headers = {"X-Request-ID": "mine"}
    asked = server.client.post("/v1/sentiment", json={"input": TEXT}, headers=headers | bearer(KEY))
    assert asked.status_code == 200
    said = {"request_id": "mine", "label": "positive"}
    foreign = server.client.post("/v1/feedback", json=said, headers=bearer(SLOW))
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "request_not_found")
    assert server.client.post("/v1/feedback", json=said, headers=bearer(KEY)).status_code == 200


def test_two_models_in_one_request_are_one_purchase(start_server: ServerFactory) -> None:
    """More than the minute's tokens for both together: that is said, and nothing is taken."""
    server = start_server(api_keys=line("web", KEY, f":{3 * TOKENS}"))
    body = {"input": [TEXT, TEXT]}
    refused = server.client.post("/v1/analyze", json=body, headers=bearer(KEY))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "too_many_tokens")
    assert refused.headers["x-ratelimit-remaining-tokens"] == str(3 * TOKENS)
    both = server.client.post("/v1/analyze", json={"input": TEXT}, headers=bearer(KEY))
    assert both.status_code == 200


def test_a_stream_of_a_key_over_its_rate_keeps_no_room_from_the_streams_of_others(
    start_server: ServerFactory,
) -> None:
    keys = f"{line('web', KEY)},{line('slow', SLOW, f':{2 * TOKENS}')}"
    server = start_server(api_keys=keys, max_queue_tokens=64, max_batch_tokens=32)
    lines = "".join(f'"{TEXT} {number}"\n' for number in range(40)).encode()
    asked = b"POST /v1/bulk HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
    asked += f"Authorization: Bearer {SLOW}\r\nContent-Length: {len(lines)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(asked + lines)
        until(lambda: server.count("encserve_key_refusals_total", key="slow", reason="rate") > 0)
        bulk = {**bearer(KEY), "Content-Type": "application/x-ndjson"}
        answer = server.client.post("/v1/bulk", content=lines, headers=bulk, timeout=20)
    assert '"failed":0' in answer.text.splitlines()[-1]
