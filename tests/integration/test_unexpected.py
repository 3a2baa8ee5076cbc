"""An error that nobody foresaw: planted in a route, and asked for."""

import logging
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.responses import StreamingResponse

from service.api import openai
from tests.integration.conftest import ServerFactory, until

TEXT = "xyzzycanary food"
ASK = {"input": TEXT}


def fail(*_: object, **__: object) -> None:
    try:
        raise KeyError(TEXT)
    except KeyError as error:
        raise ValueError(f"cannot take {TEXT!r}") from error


def test_unexpected_error_is_answered_counted_and_logged_as_any_other_but_without_its_message(
    start_server: ServerFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start_server(cors_origins="https://other.example")
    monkeypatch.setattr(openai, "embedding_entries", fail)
    headers = {"X-Request-ID": "mine", "Origin": "https://other.example"}
    answer = server.client.post("/v1/embeddings", json=ASK, headers=headers)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "https://other.example"
    counted = {"endpoint": "/v1/embeddings", "model": "embedding", "outcome": "internal_error"}
    until(lambda: server.count("encserve_requests_total", **counted) == 1)
    (told,) = [one for one in caplog.records if one.name == "service.api.unexpected"]
    fields = told.__dict__["fields"]
    assert (fields["id"], fields["error"]) == ("mine", "builtins.ValueError")
    assert fields["cause"] == "builtins.KeyError"
    assert fields["at"][-1].startswith("test_unexpected.py:")
    (line,) = [one for one in caplog.records if one.name == "encserve.request"]
    assert line.levelno == logging.WARNING
    assert line.__dict__["fields"]["status"] == 500
    assert "xyzzycanary" not in f"{caplog.text}{[one.__dict__ for one in caplog.records]}"
    monkeypatch.undo()
    assert server.client.post("/v1/embeddings", json=ASK).status_code == 200


def test_answer_that_fails_once_begun_is_cut_off_and_no_message_is_logged(
    start_server: ServerFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"object": "list"'
        fail()

    server = start_server()
    monkeypatch.setattr(openai, "json_response", lambda *_, **__: StreamingResponse(parts()))
    with pytest.raises(httpx2.RemoteProtocolError):
        server.client.post("/v1/embeddings", json=ASK)
    until(lambda: "unexpected error" in caplog.text)
    assert "xyzzycanary" not in caplog.text
    assert server.client.get("/livez").status_code == 200
