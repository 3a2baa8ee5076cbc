"""Bad input of every kind: a 4xx with a stable code, a sentence that helps, never an echo."""

import json
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.conftest import LiveServer, ServerFactory

CANARY = "xyzzy-canary-7391"
ROUTES = ["/v1/embeddings", "/v1/sentiment", "/v1/classify"]
JSON = {"Content-Type": "application/json"}

BAD_BODIES: dict[str, tuple[bytes, int, str, str | None]] = {
    "no body": (b"", 400, "invalid_json", None),
    "not json": (b"{" + CANARY.encode(), 400, "invalid_json", None),
    "two values": (b'{"input": "a"} {}', 400, "invalid_json", None),
    "not utf-8": (b'{"input": "\xff\xfe"}', 400, "invalid_json", None),
    "NaN": (b'{"input": NaN}', 400, "invalid_json", None),
    "Infinity": (b'{"input": "a", "dimensions": Infinity}', 400, "invalid_json", None),
    "1e999": (b'{"input": "a", "dimensions": 1e999}', 400, "invalid_json", None),
    "lone surrogate": (b'{"input": "\\ud800"}', 400, "invalid_json", None),
    "lone surrogate in a key": (b'{"\\udfff": "a"}', 400, "invalid_json", None),
    "deep nesting": (b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "", None),
    "null": (b"null", 400, "invalid_field", None),
    "a list": (b'["a"]', 400, "invalid_field", None),
    "a string": (f'"{CANARY}"'.encode(), 400, "invalid_field", None),
    "empty object": (b"{}", 400, "invalid_field", "input"),
    "null input": (b'{"input": null}', 400, "invalid_field", "input"),
    "number": (b'{"input": 3}', 400, "invalid_field", "input"),
    "object": (f'{{"input": {{"{CANARY}": 1}}}}'.encode(), 400, "invalid_field", "input"),
    "true": (b'{"input": [true]}', 400, "invalid_field", "input[0]"),
    "mixed list": (f'{{"input": ["{CANARY}", null]}}'.encode(), 400, "invalid_field", "input[1]"),
    "token ids": (b'{"input": [101, 102]}', 400, "token_ids_not_accepted", "input"),
    "lists of token ids": (b'{"input": [[101], [102]]}', 400, "token_ids_not_accepted", "input"),
    "empty list": (b'{"input": []}', 400, "empty_input", "input"),
    "empty string": (b'{"input": ""}', 400, "blank_text", "input[0]"),
    "blank": (b'{"input": ["a", " \\n\\t\\u3000"]}', 400, "blank_text", "input[1]"),
    "nothing but a zero-width space": (
        b'{"input": ["a", "\xe2\x80\x8b"]}', 400, "blank_text", "input[1]",
    ),
    "nothing but NUL": (b'{"input": "\\u0000"}', 400, "blank_text", "input[0]"),
    "a hundred thousand unknown fields": (
        json.dumps(dict.fromkeys(map(str, range(100_000)), 1)).encode(), 400, "invalid_field", None,
    ),
    "a hundred thousand texts": (
        json.dumps({"input": ["a"] * 100_000}).encode(), 400, "too_many_texts", "input",
    ),
    "unknown field": (f'{{"input": "a", "{CANARY}": 1}}'.encode(), 400, "invalid_field", None),
    "unknown model": (
        f'{{"input": "a", "model": "{CANARY}"}}'.encode(), 404, "model_not_found", "model",
    ),
    "model is a number": (b'{"input": "a", "model": 1}', 400, "invalid_field", "model"),
}  # fmt: skip


def check(response: Any, status: int, code: str, param: str | None = None) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"code", "message", "param", "type"}
    assert len(response.content) < 1024
    assert len(error["message"]) > 10
    if code:
        assert (error["code"], error["param"]) == (code, param)
    assert CANARY not in response.text


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_bad_body_is_a_4xx_that_says_what_is_wrong(
    server: LiveServer, route: str, case: tuple[bytes, int, str, str | None]
) -> None:
    body, status, code, param = case
    check(server.client.post(route, content=body, headers=JSON), status, code, param)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("dimensions", 0, "invalid_field"),
        ("dimensions", -1, "invalid_field"),
        ("dimensions", 1.5, "invalid_field"),
        ("dimensions", "8", "invalid_field"),
        ("dimensions", True, "invalid_field"),
        ("dimensions", 17, "invalid_dimensions"),
        ("dimensions", 10**30, "invalid_json"),
        ("encoding_format", CANARY, "invalid_field"),
        ("user", 7, "invalid_field"),
        ("model", "sentiment", "wrong_task"),
    ],
)
def test_bad_option_of_embeddings_names_the_option(
    server: LiveServer, field: str, value: object, code: str
) -> None:
    response = server.client.post("/v1/embeddings", json={"input": "a", field: value})
    if response.json()["error"]["code"] == "invalid_field" and code == "invalid_json":
        code = "invalid_field"  # a huge integer may reach the field or not parse at all
    check(response, 400, code, None if code == "invalid_json" else field)


def test_embedding_model_cannot_classify(server: LiveServer) -> None:
    body = {"input": "a", "model": "embedding"}
    check(server.client.post("/v1/sentiment", json=body), 400, "wrong_task", "model")


def test_limits_are_named_with_the_setting_that_moves_them(start_server: ServerFactory) -> None:
    server = start_server(
        max_texts_per_request=2, max_text_chars=10, max_body_bytes=200, max_queue_tokens=128
    )
    too_many = server.client.post("/v1/embeddings", json={"input": ["a", "b", "c"]})
    check(too_many, 400, "too_many_texts", "input")
    assert "ENCSERVE_MAX_TEXTS_PER_REQUEST" in too_many.text
    too_long = server.client.post("/v1/embeddings", json={"input": ["a", "b" * 11]})
    check(too_long, 400, "text_too_long", "input[1]")
    assert "ENCSERVE_MAX_TEXT_CHARS" in too_long.text
    too_large = server.client.post("/v1/embeddings", json={"input": "b" * 200})
    check(too_large, 413, "body_too_large")
    assert "ENCSERVE_MAX_BODY_BYTES" in too_large.text


def test_body_without_a_declared_length_is_cut_off_at_the_limit(
    start_server: ServerFactory,
) -> None:
    server = start_server(max_body_bytes=1000)
    chunks = (b"x" * 100 for _ in range(50))
    response = server.client.post("/v1/embeddings", content=chunks, headers=JSON)
    check(response, 413, "body_too_large")


def test_request_of_more_tokens_than_the_queue_holds_is_refused(
    start_server: ServerFactory,
) -> None:
    server = start_server(max_queue_tokens=128, max_batch_tokens=64)
    response = server.client.post(
        "/v1/embeddings", json={"input": [f"train {n}" for n in range(40)]}
    )
    check(response, 400, "too_many_tokens", "input")
    assert "ENCSERVE_MAX_QUEUE_TOKENS" in response.text


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_wrong_media_type_names_the_header_to_send(
    server: LiveServer, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = server.client.post("/v1/embeddings", content=b'{"input": "a"}', headers=headers)
    check(response, 415, "unsupported_media_type")


def test_compressed_body_is_refused_not_misread(server: LiveServer) -> None:
    headers = JSON | {"Content-Encoding": "gzip"}
    response = server.client.post("/v1/embeddings", content=b"\x1f\x8b", headers=headers)
    check(response, 415, "unsupported_media_type")


def test_charset_in_the_media_type_is_no_obstacle(server: LiveServer) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    body = b'{"input": "a"}'
    assert server.client.post("/v1/embeddings", content=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/{CANARY}", 404, "unknown_route"),
        ("POST", "/v1/embedding", 404, "unknown_route"),
        ("GET", "/v1/embeddings", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_unknown_route_or_method_is_json_too(
    server: LiveServer, method: str, path: str, status: int, code: str
) -> None:
    check(server.client.request(method, path), status, code)


def test_garbage_instead_of_http_is_refused_and_the_server_lives(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"\x00\xff garbage\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert server.client.get("/readyz").status_code == 200


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "input": st.text() | st.lists(st.text(), max_size=4) | JSON_VALUES,
        "model": st.sampled_from(["embedding", "sentiment"]) | JSON_VALUES,
        "dimensions": st.integers(-5, 40) | JSON_VALUES,
        "encoding_format": st.sampled_from(["float", "base64"]) | JSON_VALUES,
        "surprise": JSON_VALUES,
    },
)


@settings(max_examples=300, deadline=None)
@given(BODIES | JSON_VALUES, st.sampled_from(ROUTES))
def test_no_json_whatever_gives_a_5xx(server: LiveServer, body: object, route: str) -> None:
    content = json.dumps(body).encode()
    response = server.client.post(route, content=content, headers=JSON)
    assert response.status_code < 500
    assert response.status_code == 200 or response.json()["error"]["code"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(ROUTES))
def test_no_bytes_whatever_give_a_5xx(server: LiveServer, body: bytes, route: str) -> None:
    response = server.client.post(route, content=body, headers=JSON)
    assert 400 <= response.status_code < 500
    assert response.json()["error"]["code"]


def test_unknown_priority_names_those_there_are(server: LiveServer) -> None:
    for priority in ("interactive", "bulk"):
        answer = server.client.post(
            "/v1/sentiment", json={"input": "good"}, headers={"X-Priority": priority}
        )
        assert answer.status_code == 200
    response = server.client.post(
        "/v1/sentiment", json={"input": "good"}, headers={"X-Priority": CANARY}
    )
    check(response, 400, "invalid_field", "X-Priority")
    assert "interactive or bulk" in response.text


def test_trailing_slash_is_an_unknown_route_and_no_redirect(server: LiveServer) -> None:
    response = server.client.post("/v1/sentiment/", json={"input": "good"})
    check(response, 404, "unknown_route")


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=abc", "text/plain;version=zzz; q=", ";;,="]
)
def test_odd_accept_header_gets_metrics_all_the_same(server: LiveServer, accept: str) -> None:
    response = server.client.get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert "encserve_requests_total" in response.text


def test_body_that_does_not_arrive_gets_408(
    start_server: ServerFactory,
) -> None:
    server = start_server(request_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"input"'
        )
        answer = b""
        while not answer.endswith(b"}}") and (received := connection.recv(65536)):
            answer += received
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_too_slow" in answer
    assert b"ENCSERVE_REQUEST_TIMEOUT_S" in answer
