"""Two versions of a model compared while they serve: canary, shadow, promotion."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from service.offline.predict import Predictor
from service.store.manifest import ManifestFields
from service.store.repository import ModelRepository
from tests.conftest import tiny_tokenizer
from tests.integration.conftest import ENCSERVE, LiveServer, live_server, until
from tests.integration.test_live import ADMIN, KEY, admin

WORDS = ("the", "a", "not", "good", "train", "leaves", "at", "nine", "food")
TEXTS = [f"{first} {second} {third}" for first in WORDS for second in WORDS for third in WORDS]


def publish_changed(store: Path, name: str, change: Callable[[ModelProto], object]) -> None:
    """The next version, whose graph was changed; the pointer stays."""
    repository = ModelRepository(store)
    model = repository.resolve(name)
    with repository.draft(name) as draft:
        for file in model.manifest.files:
            (draft.path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(model.file(file), draft.path / file)
        graph = onnx.load(draft.path / "model.onnx")
        change(graph)
        (draft.path / "model.onnx").write_bytes(graph.SerializeToString())
        fields = {field: getattr(model.manifest, field) for field in ManifestFields.model_fields}
        draft.publish(ManifestFields(**fields))
    repository.set_current(name, model.manifest.version)


def tensor(model: ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(one for one in model.graph.initializer if name in one.name)
    return found


def fails_on_bad(model: ModelProto) -> None:
    """Any text with the word "bad" gets no number; no golden text has it."""
    found = tensor(model, "token.weight")
    rows = numpy_helper.to_array(found).copy()
    rows[tiny_tokenizer().token_to_id("bad")] = np.inf
    found.CopyFrom(numpy_helper.from_array(rows, found.name))


def noisy_head(amount: float) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        found = tensor(model, "classifier.weight")
        weights = numpy_helper.to_array(found)
        noise = np.random.default_rng(3).normal(size=weights.shape) * amount
        moved = (weights + noise).astype(np.float32)
        found.CopyFrom(numpy_helper.from_array(moved, found.name))

    return change


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_store, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def server(store: Path) -> Iterator[LiveServer]:
    publish_changed(store, "embedding", fails_on_bad)
    publish_changed(store, "sentiment", noisy_head(0.3))
    with live_server(store, admin_key=KEY, cache_bytes=0) as running:
        yield running


def asked(server: LiveServer, key: str, text: str = "the food", **body: object) -> httpx2.Response:
    return server.client.post(
        "/v1/embeddings", json={"input": text} | body, headers={"X-Request-ID": key}
    )


def test_canary_gets_its_share_and_always_the_same_callers(server: LiveServer) -> None:
    response = admin(server, "embedding/canary", version="2", share=0.3)
    assert response.status_code == 200, response.text
    given = {key: asked(server, key).headers["x-model-version"] for key in map(str, range(120))}
    share = sum(version == "2" for version in given.values()) / len(given)
    assert 0.2 < share < 0.4
    for key, version in list(given.items())[:20]:
        assert asked(server, key).headers["x-model-version"] == version
    taken = next(key for key, version in given.items() if version == "2")
    for named in ("embedding@1", "embedding@2"):
        told = asked(server, taken, model=named).headers["x-model-version"]
        assert told == named[-1]
    assert server.count("encserve_canary_share", model="embedding", version="2") == 0.3
    assert admin(server, "embedding/canary", version="2", share=0).status_code == 200
    assert asked(server, taken).headers["x-model-version"] == "1"


def test_canary_that_fails_more_is_taken_back_without_a_person(server: LiveServer) -> None:
    admin(server, "embedding/canary", version="2", share=0.5)
    statuses = [asked(server, str(n), "a bad train").status_code for n in range(200)]
    assert 500 in statuses
    # From the moment that enough was seen all is well again.
    assert set(statuses[-50:]) == {200}
    taken = {"model": "embedding", "reason": "failures"}
    assert server.registry.get_sample_value("encserve_canaries_taken_back_total", taken) == 1
    assert server.client.get("/admin/models", headers=ADMIN).json()["canaries"] == {}


def test_canary_that_does_as_well_stays(server: LiveServer) -> None:
    admin(server, "embedding/canary", version="2", share=0.5)
    assert {asked(server, str(n)).status_code for n in range(150)} == {200}
    listed = server.client.get("/admin/models", headers=ADMIN).json()["canaries"]
    assert listed == {"embedding": {"version": "2", "share": 0.5}}


def compared(server: LiveServer, model: str, texts: int) -> dict[str, float]:
    def found() -> Any:
        return server.client.get("/admin/models", headers=ADMIN).json()["shadows"][model]

    until(lambda: bool(found()["texts"] == texts))
    means: dict[str, float] = found()["means"]
    return means


def test_shadow_finds_the_disagreement_that_an_offline_run_finds(
    server: LiveServer, store: Path
) -> None:
    assert admin(server, "sentiment/shadow", version="2").status_code == 200
    for start in range(0, len(TEXTS), 100):
        body = {"input": TEXTS[start : start + 100]}
        response = server.client.post("/v1/sentiment", json=body)
        assert response.headers["x-model-version"] == "1"
    means = compared(server, "sentiment", len(TEXTS))
    repository = ModelRepository(store)
    one, two = (
        Predictor(model.path, model.manifest, "fp32").scores(TEXTS)
        for model in (repository.resolve("sentiment", version) for version in "12")
    )
    disagreement = float((one.argmax(axis=1) != two.argmax(axis=1)).mean())
    assert 0 < disagreement < 1
    assert means["disagreements"] == pytest.approx(disagreement, abs=2 / len(TEXTS))
    difference = float(np.abs(one - two).mean())
    assert means["score_difference"] == pytest.approx(difference, abs=1e-4)
    counted = server.count("encserve_shadow_texts_total", model="sentiment", version="2")
    assert counted == len(TEXTS)


def test_shadow_that_fails_harms_nobody_and_is_counted(server: LiveServer) -> None:
    admin(server, "embedding/shadow", version="2")
    assert asked(server, "1", "a bad train").status_code == 200
    assert asked(server, "2", "a good train").status_code == 200
    assert compared(server, "embedding", 1)["cosine"] == pytest.approx(1, abs=1e-5)
    failed = {"model": "embedding", "version": "2", "reason": "non_finite_output"}
    until(lambda: server.count("encserve_shadow_failures_total", **failed) == 1)


def test_promotion_is_refused_below_the_bar_and_done_above_it(
    server: LiveServer, store: Path
) -> None:
    nothing = admin(server, "sentiment/promote")
    assert "no shadow" in nothing.json()["error"]["message"]
    admin(server, "sentiment/shadow", version="2")
    few = admin(server, "sentiment/promote")
    assert "only 0 texts" in few.json()["error"]["message"]
    server.client.post("/v1/sentiment", json={"input": TEXTS})
    compared(server, "sentiment", len(TEXTS))
    worse = admin(server, "sentiment/promote", max_slowdown=100)
    assert (worse.status_code, "labels differ" in worse.json()["error"]["message"]) == (400, True)
    assert ModelRepository(store).current("sentiment") == "1"
    command = [*ENCSERVE, "promote", "sentiment", "--server", server.url, "--max-slowdown", "100"]
    environment = os.environ | {"ENCSERVE_ADMIN_KEY": KEY}

    def promoted(*bar: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *bar], env=environment, capture_output=True, text=True, timeout=60
        )

    refused = promoted()
    assert (refused.returncode, "labels differ" in refused.stderr) == (1, True)
    done = promoted("--max-disagreement", "1", "--max-score-difference", "1")
    assert (done.returncode, done.stdout) == (0, "sentiment: version 2 serves now\n")
    assert ModelRepository(store).current("sentiment") == "2"
    told = server.client.post("/v1/sentiment", json={"input": "a"}).headers["x-model-version"]
    assert told == "2"
