"""huggingface_hub's own client against our server, unchanged."""

from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient

from tests.integration.conftest import LiveServer

TEXT = "the train leaves at nine"


@pytest.fixture
def client(server: LiveServer) -> InferenceClient:
    return InferenceClient(model=server.url)


def own(server: LiveServer, path: str, **body: object) -> Any:
    return server.client.post(path, json=body).json()


def test_features_of_one_text_and_of_several(client: InferenceClient, server: LiveServer) -> None:
    vector = own(server, "/v1/embeddings", input=TEXT)["data"][0]["embedding"]
    assert client.feature_extraction(TEXT)[0] == pytest.approx(np.array(vector), abs=1e-6)
    cut = client.feature_extraction(TEXT, normalize=True, truncate=True, dimensions=4)
    assert cut.shape == (1, 4)
    by_path = InferenceClient(model=f"{server.url}/embed").feature_extraction(TEXT)
    assert by_path[0] == pytest.approx(np.array(vector), abs=1e-6)


def test_classification_names_all_labels(client: InferenceClient, server: LiveServer) -> None:
    found = client.text_classification(TEXT)
    scores = own(server, "/v1/classify", input=TEXT)["data"][0]["scores"]
    assert {one.label: one.score for one in found} == pytest.approx(scores, abs=1e-6)
    assert [one.score for one in found] == sorted(scores.values(), reverse=True)
    assert len(client.text_classification(TEXT, top_k=2)) == 2
    raw = client.text_classification(TEXT, function_to_apply="none")
    logits = own(server, "/v1/classify", input=TEXT, raw_scores=True)["data"][0]["scores"]
    assert {one.label: one.score for one in raw} == pytest.approx(logits, abs=1e-6)


def test_similarity_of_sentences(client: InferenceClient, server: LiveServer) -> None:
    others = ["a bad train", "good food"]
    data = own(server, "/v1/embeddings", input=[TEXT, *others])["data"]
    vectors = np.array([entry["embedding"] for entry in data])
    found = client.sentence_similarity(TEXT, other_sentences=others)
    assert found == pytest.approx((vectors[1:] @ vectors[0]).tolist(), abs=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_in_the_callers_words(
    client: InferenceClient, server: LiveServer, multi_label: bool
) -> None:
    labels = ["food", "trains"]
    found = client.zero_shot_classification(
        TEXT, labels, multi_label=multi_label, hypothesis_template="the {}"
    )
    answer = own(
        server,
        "/v1/classify",
        input=TEXT,
        candidate_labels=labels,
        multi_label=multi_label,
        hypothesis_template="the {}",
    )
    scores = answer["data"][0]["scores"]
    assert {one.label: one.score for one in found} == pytest.approx(scores, abs=1e-6)
    assert [one.score for one in found] == sorted(scores.values(), reverse=True)
