"""Drift over HTTP: the index stays low for texts like the model's own, and rises for others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.reference import REFERENCE_FILE, read_reference
from service.store.repository import ModelRepository
from tests.conftest import SENTENCES
from tests.integration.conftest import LiveServer, live_server

ROUTES = {"embedding": "/v1/embeddings", "sentiment": "/v1/sentiment"}
FEATURES = {
    "embedding": {"tokens", "unknown", "distance"},
    "sentiment": {"tokens", "unknown", "label", "confidence"},
}


@pytest.fixture
def server(tiny_store: Path) -> Iterator[LiveServer]:
    with live_server(tiny_store) as running:
        yield running


def index(server: LiveServer, model: str, feature: str) -> float:
    return server.count("encserve_drift_psi", model=model, feature=feature)


def ask(server: LiveServer, model: str, texts: list[str]) -> None:
    assert server.client.post(ROUTES[model], json={"input": texts}).status_code == 200


@pytest.mark.parametrize("model", ROUTES)
def test_reference_holds_histograms_and_no_text(tiny_store: Path, model: str) -> None:
    path = ModelRepository(tiny_store).resolve(model).file(REFERENCE_FILE)
    reference = read_reference(path)
    assert set(reference.features) == FEATURES[model]
    assert reference.texts == len(SENTENCES)
    for histogram in reference.features.values():
        assert len(histogram.shares) == len(histogram.edges) + 1
        assert sum(histogram.shares) == pytest.approx(1)
    assert not any(sentence in path.read_text() for sentence in SENTENCES)


@pytest.mark.parametrize("model", ROUTES)
def test_index_is_low_for_the_models_own_texts_and_high_for_others(
    server: LiveServer, model: str
) -> None:
    ask(server, model, list(SENTENCES) * 60)
    for feature in FEATURES[model]:
        assert index(server, model, feature) == pytest.approx(0, abs=0.02), feature
    ask(server, model, ["the train " * 20, "\u4e00 \u4e01 \u4e02"] * 1000)
    for feature in FEATURES[model]:
        assert index(server, model, feature) > 0.25, feature


def test_few_texts_say_nothing(server: LiveServer) -> None:
    ask(server, "sentiment", ["the train " * 20] * 100)
    assert index(server, "sentiment", "tokens") == 0
    page = server.client.get("/metrics").text
    assert 'encserve_drift_psi{feature="tokens",model="sentiment",version="1"} 0.0' in page


def test_window_forgets_what_was_long_ago(server: LiveServer) -> None:
    ask(server, "embedding", ["the train " * 20] * 1000)
    assert index(server, "embedding", "tokens") > 0.25
    for _ in range(5):
        ask(server, "embedding", list(SENTENCES) * 100)
    assert index(server, "embedding", "tokens") == pytest.approx(0, abs=0.02)
