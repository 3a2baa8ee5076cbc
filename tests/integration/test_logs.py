"""What a server writes of itself and of each request, and that no text of a caller is in it."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.conftest import Process, until

TEXT = "xyzzycanary food"


@pytest.fixture(scope="module")
def lines(tiny_store: Path) -> list[dict[str, Any]]:
    """All that a server wrote that was asked some things."""
    variables = {"ENCSERVE_PROBE": "false", "ENCSERVE_ADMIN_KEY": "hush"}
    process = Process(tiny_store, os.environ | variables)
    try:
        url = process.announced()[1]
        ask = {"input": [TEXT, "the train"]}
        headers = {"X-Request-Id": "mine"}
        httpx2.post(f"{url}/v1/sentiment", json=ask, headers=headers).raise_for_status()
        httpx2.post(f"{url}/v1/sentiment", json={"input": TEXT, "xyzzycanary": 1})
        httpx2.post(f"{url}/v1/analyze", json=ask).raise_for_status()
        bulk = {"Content-Type": "application/x-ndjson", "X-Request-Id": "bulk"}
        content = b'"xyzzycanary"\n"the train"\n'
        httpx2.post(f"{url}/v1/bulk", content=content, headers=bulk).raise_for_status()
        httpx2.get(f"{url}/livez")
        httpx2.get(f"{url}/xyzzycanary?xyzzycanary=1")
        until(lambda: process.output.count('"unknown_route"') == 1)
        process.end(signal.SIGTERM)
    finally:
        process.close()
    assert "xyzzycanary" not in process.output
    assert "hush" not in process.output
    return [json.loads(line) for line in process.lines if line.startswith("{")]


def requests(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["logger"] == "encserve.request"]


def test_request_is_one_line_with_what_it_took(lines: list[dict[str, Any]]) -> None:
    (line,) = [line for line in requests(lines) if line["id"] == "mine"]
    stages = line.pop("stages")
    total_ms = line.pop("ms")
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "encserve.request",
        "message": "request",
        "id": "mine",
        "method": "POST",
        "route": "/v1/sentiment",
        "status": 200,
        "outcome": "ok",
        "model": "sentiment",
        "version": "1",
        "texts": 2,
        "tokens": 14 + 4,
    }
    assert list(stages) == ["read", "tokenize", "queue", "infer", "post_process", "write"]
    assert all(took_ms >= 0 for took_ms in stages.values())
    assert 0 < sum(stages.values()) <= total_ms * 1.01


def test_every_request_but_probes_is_told_with_its_outcome(lines: list[dict[str, Any]]) -> None:
    told = [(line["route"], line["outcome"], line.get("texts")) for line in requests(lines)]
    assert told == [
        ("/v1/sentiment", "ok", 2),
        ("/v1/sentiment", "invalid_field", None),
        # By both models.
        ("/v1/analyze", "ok", 4),
        ("/v1/bulk", "ok", 2),
        ("other", "unknown_route", None),
    ]


def test_start_tells_settings_models_and_machine(
    lines: list[dict[str, Any]], tiny_store: Path
) -> None:
    told = {line["message"]: line for line in lines if line["logger"] == "encserve.start"}
    assert told["settings"]["model_store"] == str(tiny_store)
    assert told["settings"]["admin_key"] == "***"
    loaded = {line["model"]: line for line in lines if line["message"] == "model"}
    assert loaded.keys() == {"embedding", "sentiment"}
    assert loaded["sentiment"]["digest"].startswith("sha256:")
    assert told["process"]["workers"] >= 1
    assert told["process"]["memory_bytes"] < told["process"]["memory_limit_bytes"]
