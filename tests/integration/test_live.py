"""Models that change while the server answers: swaps, bad versions, and who may ask for them."""

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from monitoring import versions
from service.store.repository import ModelRepository, PublishedModel
from tests.integration.conftest import LiveServer, Process, live_server, until
from tests.integration.test_bulk import stream

KEY = "correct horse"
ADMIN = {"Authorization": f"Bearer {KEY}"}
# `make chaos` asks for 200.
SWAPS = int(os.environ.get("SWAPS", "40"))
MOST_GROWTH_BYTES = 32 * 2**20


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_store, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def server(store: Path) -> Iterator[LiveServer]:
    with live_server(store, admin_key=KEY, cache_bytes=0) as running:
        yield running


def publish_again(store: Path) -> PublishedModel:
    return versions.publish_again(ModelRepository(store), "embedding")


def admin(server: LiveServer, path: str, **body: object) -> httpx2.Response:
    return server.client.post(f"/admin/models/{path}", json=body, headers=ADMIN)


def version(server: LiveServer, model: str = "embedding") -> str:
    response = server.client.post("/v1/embeddings", json={"input": "the food", "model": model})
    assert response.status_code == 200, response.text
    return str(response.headers["x-model-version"])


def test_current_version_is_swapped_and_the_old_one_is_gone(
    server: LiveServer, store: Path
) -> None:
    publish_again(store)
    assert version(server) == "1"
    answer = admin(server, "embedding/current", version="2").json()
    assert answer == {"model": "embedding", "version": "2", "serves": "2"}
    assert version(server) == "2"
    assert (
        server.client.post(
            "/v1/embeddings", json={"input": "a", "model": "embedding@1"}
        ).status_code
        == 404
    )
    until(lambda: 'version="1"' not in served_series(server, "embedding"))


def served_series(server: LiveServer, model: str) -> str:
    page = server.client.get("/metrics").text
    return "".join(line for line in page.splitlines() if f'model="{model}"' in line)


def test_rollback_moves_pointer_and_server(server: LiveServer, store: Path) -> None:
    publish_again(store)
    assert admin(server, "embedding/current", version="2").status_code == 200
    assert admin(server, "embedding/rollback").json()["serves"] == "1"
    assert ModelRepository(store).current("embedding") == "1"
    assert version(server) == "1"
    response = admin(server, "embedding/rollback")
    assert (response.status_code, response.json()["error"]["code"]) == (
        *(404, "published_model_not_found"),
    )


def test_version_beside_the_current_one_is_loaded_and_unloaded(
    server: LiveServer, store: Path
) -> None:
    publish_again(store)
    assert admin(server, "embedding/load", version="2").json()["serves"] == "1"
    assert (version(server), version(server, "embedding@2")) == ("1", "2")
    listed = server.client.get("/admin/models", headers=ADMIN).json()
    loaded = {(one["name"], one["version"]): one["serves"] for one in listed["loaded"]}
    assert loaded == {("embedding", "1"): True, ("embedding", "2"): False, ("sentiment", "1"): True}
    assert listed["store"][0] == {"name": "embedding", "current": "2", "versions": ["1", "2"]}
    assert admin(server, "embedding/unload", version="2").status_code == 200
    gone = server.client.post("/v1/embeddings", json={"input": "a", "model": "embedding@2"})
    assert gone.status_code == 404


@contextmanager
def requests_without_end(server: LiveServer) -> Iterator[list[tuple[int, str, Any]]]:
    """Callers that ask and ask: status, version and answer of each request."""
    seen: list[tuple[int, str, Any]] = []
    ended = threading.Event()

    async def ask() -> None:
        body = {"input": ["the food", "a good train", "nine"]}
        async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
            while not ended.is_set():
                response = await client.post("/v1/embeddings", json=body)
                told = response.headers.get("x-model-version", "")
                seen.append((response.status_code, told, response.json()))

    async def crowd() -> None:
        await asyncio.gather(*(ask() for _ in range(4)))

    thread = threading.Thread(target=asyncio.run, args=(crowd(),))
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_swaps_under_load_fail_nothing(server: LiveServer, store: Path) -> None:
    publish_again(store)
    with requests_without_end(server) as seen:
        for swap in range(SWAPS):
            wanted = "2" if swap % 2 == 0 else "1"
            assert admin(server, "embedding/current", version=wanted).status_code == 200
    assert {status for status, _, _ in seen} == {200}
    assert {told for _, told, _ in seen} == {"1", "2"}


def test_swaps_keep_nothing_in_memory(store: Path) -> None:
    """In a process of its own: what else the tests have done does not count."""
    publish_again(store)
    process = Process(store, os.environ | {"ENCSERVE_ADMIN_KEY": KEY, "ENCSERVE_PROBE": "false"})
    try:
        url = process.announced().group(1)
        statm = Path(f"/proc/{process.popen.pid}/statm")
        resident: list[int] = []
        for swap in range(SWAPS):
            changed = httpx2.post(
                f"{url}/admin/models/embedding/current",
                json={"version": "2" if swap % 2 == 0 else "1"},
                headers=ADMIN,
                timeout=30,
            )
            assert changed.status_code == 200
            answer = httpx2.post(f"{url}/v1/embeddings", json={"input": "a train"}, timeout=30)
            assert answer.status_code == 200
            resident.append(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        assert resident[-1] - resident[10] < MOST_GROWTH_BYTES
    finally:
        process.close()


def test_requests_in_flight_are_answered_by_the_version_they_found(
    server: LiveServer, store: Path
) -> None:
    publish_again(store)
    texts = [f"train {number} leaves at nine" for number in range(2000)]
    found: list[httpx2.Response] = []
    asking = threading.Thread(
        target=lambda: found.append(server.client.post("/v1/embeddings", json={"input": texts}))
    )
    asking.start()
    until(lambda: server.count("encserve_batch_texts_count", model="embedding") > 0)
    with httpx2.Client(base_url=server.url, timeout=30) as other:
        changed = other.post(
            "/admin/models/embedding/current", json={"version": "2"}, headers=ADMIN
        )
        assert changed.status_code == 200
    asking.join()
    assert (found[0].status_code, found[0].headers["x-model-version"]) == (200, "1")
    assert len(found[0].json()["data"]) == 2000


def test_stream_of_lines_ends_with_its_version_and_says_so(server: LiveServer, store: Path) -> None:
    publish_again(store)
    with stream(server.url, "?dimensions=1") as client:
        answers = client.lines()
        client.send(b'"the food"\n')
        assert "embedding" in next(answers)
        assert admin(server, "embedding/current", version="2").status_code == 200
        last = list(answers)[-1]
    assert (last["lines"], last["failed"], last["error"]["code"]) == (1, 0, "shutting_down")
    assert "another version" in last["error"]["message"]


def test_version_that_is_not_whole_leaves_the_old_one_serving(
    server: LiveServer, store: Path
) -> None:
    broken = publish_again(store)
    with broken.file("model.onnx").open("r+b") as file:
        file.write(b"\0")
    response = admin(server, "embedding/current", version="2")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (500, "model_corrupt")
    assert version(server) == "1"
    failed = {"model": "embedding", "outcome": "model_corrupt"}
    assert server.registry.get_sample_value("encserve_model_loads_total", failed) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": KEY}, 401),
        ({b"Authorization": "Bearer ключ".encode()}, 401),
    ],
    ids=["no key", "wrong", "no Bearer", "not ASCII"],
)
def test_administration_needs_its_key(
    server: LiveServer, headers: dict[Any, Any], status: int
) -> None:
    for path in ("load", "unload", "rollback"):
        response = server.client.post(f"/admin/models/embedding/{path}", json={}, headers=headers)
        assert response.status_code == status
    assert server.client.get("/admin/models", headers=headers).status_code == status


def test_administration_is_off_without_a_key(tiny_store: Path) -> None:
    with live_server(tiny_store) as running:
        response = running.client.post(
            "/admin/models/embedding/rollback", json={}, headers={"Authorization": "Bearer x"}
        )
        assert (response.status_code, response.json()["error"]["code"]) == (403, "admin_disabled")


@pytest.mark.parametrize("name", ["nothing", "..", "%2e%2e", "Embedding"])
def test_model_that_the_store_lacks_is_not_found(server: LiveServer, name: str) -> None:
    response = server.client.post(f"/admin/models/{name}/load", json={}, headers=ADMIN)
    assert response.status_code == 404


def test_watched_pointer_is_followed(store: Path) -> None:
    with live_server(store, watch_s=0.05) as running:
        publish_again(store)
        until(lambda: version(running) == "2")
        ModelRepository(store).roll_back("embedding")
        until(lambda: version(running) == "1")


def test_signal_lets_the_server_follow_the_store(tiny_store: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    process = Process(store)
    try:
        url = process.announced().group(1)
        publish_again(store)
        process.popen.send_signal(signal.SIGHUP)

        def serves_the_new() -> bool:
            answer = httpx2.post(f"{url}/v1/embeddings", json={"input": "a"}, timeout=30)
            return bool(answer.headers["x-model-version"] == "2")

        until(serves_the_new)
        assert process.end(signal.SIGTERM) == 0
    finally:
        process.close()
