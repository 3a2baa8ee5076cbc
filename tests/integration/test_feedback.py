"""Feedback over HTTP: what counts as right, what is kept, and what is not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.conftest import LiveServer, live_server

LABELS = ("negative", "neutral", "positive")
CANARY = "Zanzibar"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "feedback.jsonl"


@pytest.fixture
def server(tiny_store: Path, kept: Path) -> Iterator[LiveServer]:
    with live_server(tiny_store, feedback_file=kept, feedback_texts=10) as running:
        yield running


def classified(server: LiveServer, request_id: str, *texts: str, **body: object) -> Any:
    response = server.client.post(
        "/v1/sentiment", json={"input": texts} | body, headers={"X-Request-ID": request_id}
    )
    assert response.headers["x-request-id"] == request_id
    return response.json()["data"]


def tell(
    server: LiveServer, request_id: str, index: int, label: str, **more: str
) -> httpx2.Response:
    body = {"request_id": request_id, "index": index, "label": label, **more}
    return server.client.post("/v1/feedback", json=body)


def test_feedback_is_counted_by_whether_the_answer_was_right(server: LiveServer) -> None:
    data = classified(server, "r-1", "good food", "a bad train")
    right = data[0]["label"]
    wrong = next(label for label in LABELS if label != data[1]["label"])
    assert tell(server, "r-1", 0, right).json() == {"right": True}
    assert tell(server, "r-1", 1, wrong).json() == {"right": False}
    for judged in ("right", "wrong"):
        counted = server.count("encserve_feedback_total", model="sentiment", judged=judged)
        assert counted == 1
    upper = f"{int(data[0]['score'] * 10 + 1) / 10:.1f}"
    bucket = {"model": "sentiment", "confidence": upper, "right": "true"}
    assert server.count("encserve_feedback_confidence_total", **bucket) == 1


def test_text_is_kept_only_where_it_comes_with_the_feedback(server: LiveServer, kept: Path) -> None:
    classified(server, "r-1", "good food")
    assert tell(server, "r-1", 0, "neutral").status_code == 200
    assert not kept.exists()
    assert tell(server, "r-1", 0, "neutral", text="good food").status_code == 200
    line = {"text": "good food", "label": "neutral", "model": "sentiment"}
    assert [json.loads(one) for one in kept.read_text().splitlines()] == [line]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"request_id": CANARY}, 404, "request_not_found"),
        ({"index": 2}, 400, "invalid_field"),
        ({"index": -1}, 400, "invalid_field"),
        ({"label": CANARY}, 400, "invalid_field"),
        ({"index": 1}, 400, "invalid_field"),
    ],
    ids=str,
)
def test_feedback_that_fits_no_answer_is_refused(
    server: LiveServer, change: dict[str, object], status: int, code: str
) -> None:
    classified(server, "r-1", "good food", " ", on_error="partial")
    body = {"request_id": "r-1", "index": 0, "label": "neutral"} | change
    response = server.client.post("/v1/feedback", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert CANARY not in response.text


def test_oldest_answers_are_forgotten(server: LiveServer) -> None:
    for number in range(6):
        classified(server, f"r-{number}", "good", "bad")
    assert tell(server, "r-0", 0, "neutral").status_code == 404
    assert tell(server, "r-5", 1, "neutral").status_code == 200


@pytest.mark.parametrize("sent", ["", "a b", "x" * 200, "caf\u00e9", "<script>"])
def test_request_id_that_is_not_plain_is_replaced(server: LiveServer, sent: str) -> None:
    headers = {b"X-Request-ID": sent.encode()}
    told = server.client.get("/livez", headers=headers).headers["x-request-id"]
    assert told != sent
    assert len(told) == 32


def test_no_id_comes_twice(server: LiveServer) -> None:
    """More than are drawn at once."""
    told = [server.client.get("/livez").headers["x-request-id"] for _ in range(600)]
    assert len(set(told)) == 600
