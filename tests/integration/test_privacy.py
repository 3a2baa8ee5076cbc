"""What callers send stays with them: not in logs, metrics or errors, whatever they send it in."""

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.chaos.sizes import size
from tests.integration.conftest import Process
from tests.integration.every_route import ADMIN_KEY, Asked, sound_requests

# Not plain, so that it is not taken for an id of a request; in any escape it is still found.
MARK = "Zanzibar7391"
CANARY = f"{MARK} sailed {MARK}"
# A cut asks an eighth, which are others at each route.
EVERY = size(1, 8)
HEADERS = (
    *("User-Agent", "Cookie", "Referer", "Accept", "Content-Type", "Content-Encoding", "Origin"),
    *("X-Priority", "X-Request-Timeout-Ms", "X-Expected-Version", "X-Request-ID", "Authorization"),
    *("X-Api-Key", "traceparent", "tracestate", "baggage", "X-Forwarded-For", "Host"),
    *("Inference-Header-Content-Length", MARK),
)


def spread(body: Any, put: Callable[[Any], Any] = lambda whole: whole) -> Iterator[Any]:
    """Copies of `body`, in each of which one string, number or name of a field is the canary."""
    if isinstance(body, dict):
        for name, value in body.items():
            rest = {other: body[other] for other in body if other != name}
            yield put(rest | {CANARY: value})
            yield put(body | {name: {CANARY: [CANARY]}})
            yield from spread(value, lambda new, name=name: put(body | {name: new}))  # type: ignore[misc]
    elif isinstance(body, list):
        for index, value in enumerate(body):
            yield from spread(
                value,
                lambda new, index=index: put([*body[:index], new, *body[index + 1 :]]),  # type: ignore[misc]
            )
        yield put([*body, {CANARY: CANARY}])
    yield put(CANARY)


def variants(asked: Asked) -> Iterator[tuple[Asked, dict[str, str]]]:
    """The request with the canary in each place that a caller can put something."""
    query = CANARY.replace(" ", "%20")
    for path in (f"{asked.path}?{query}={query}", f"{asked.path}/{query}"):
        yield replace(asked, path=path), {}
    if "{" in asked.route:
        path = asked.route.format(model=query, name=query)
        yield replace(asked, path=path), {}
    for header in HEADERS:
        yield asked, {header: MARK if header == "Host" else CANARY}
    if asked.route == "/v1/bulk":
        for name in ("model", "encoding_format", "dimensions", "prompt_name", "overflow", "top_k"):
            yield replace(asked, path=f"{asked.path}?{name}={query}"), {}
        for line in (
            f'"{CANARY}"',
            f'{{"input":"{CANARY}","id":"{CANARY}"}}',
            CANARY,
            f'["{MARK}"]',
        ):
            yield asked.with_content(line.encode()), {}
        return
    if asked.method != "GET":
        for content in (CANARY, f'{{"{CANARY}', f'{{"input": "{CANARY}", "input": NaN}}', ""):
            yield asked.with_content(content.encode()), {}
        for body in spread(asked.body):
            yield asked.with_body(body), {}


@pytest.fixture
def loud(tmp_path: Path, tiny_store: Path) -> Iterator[Process]:
    """A server that logs all it can, with a store and a home of its own."""
    shutil.copytree(tiny_store, tmp_path / "store")
    own = {"ENCSERVE_LOG_LEVEL": "debug", "ENCSERVE_ADMIN_KEY": ADMIN_KEY, "HOME": str(tmp_path)}
    process = Process(tmp_path / "store", os.environ | own | {"TMPDIR": str(tmp_path)})
    yield process
    process.close()


def test_canary_in_every_place_of_every_route_shows_up_nowhere(
    loud: Process, tmp_path: Path
) -> None:
    url = loud.announced()[1]
    asked = 0
    places = itertools.count()
    with httpx2.Client(base_url=url, timeout=30) as client:
        for sound in sound_requests(client.get("/openapi.json").json()):
            for one, more in variants(sound):
                if next(places) % EVERY:
                    continue
                answer = client.request(
                    one.method, one.path, content=one.sent, headers=one.headers | more
                )
                asked += 1
                # The id of a request that is none is not taken.
                assert MARK not in str(answer.headers), (one, more)
                if answer.status_code >= 400:
                    assert MARK not in answer.text, (one, more)
        for path in ("/metrics", "/admin/models", "/v2/models/stats", "/info"):
            found = client.get(path, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
            assert MARK not in found.text, path
    assert loud.end(signal.SIGTERM) == 0
    assert MARK not in loud.output
    assert ADMIN_KEY not in loud.output
    assert "Traceback" not in loud.output
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if MARK.encode() in path.read_bytes()] == []
    assert asked > 1200 // EVERY


def test_route_without_a_request_of_its_own_is_noticed() -> None:
    document: dict[str, Any] = {"paths": {"/v1/new": {"post": {"requestBody": {"content": {}}}}}}
    with pytest.raises(AssertionError, match="post /v1/new"):
        sound_requests(document)
