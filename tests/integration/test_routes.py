"""The documented behaviour of every route, over HTTP."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import LiveServer, ServerFactory, documented_examples

TEXTS = ["the food", "the train leaves at nine", "a good good good train", "bad", "not a train"]


def embed(server: LiveServer, **body: object) -> Any:
    response = server.client.post("/v1/embeddings", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def vectors(answer: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([entry["embedding"] for entry in answer["data"]], dtype=np.float32)


def test_embedding_of_one_string_has_openais_shape(server: LiveServer) -> None:
    answer = embed(server, input="the train", model="embedding")
    assert answer["object"] == "list"
    assert answer["model"] == "embedding"
    (entry,) = answer["data"]
    assert (entry["object"], entry["index"], len(entry["embedding"])) == ("embedding", 0, 16)
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert np.linalg.norm(entry["embedding"]) == pytest.approx(1, abs=1e-6)


def test_vector_is_the_same_alone_and_in_any_company(server: LiveServer) -> None:
    together = vectors(embed(server, input=TEXTS))
    alone = np.concatenate([vectors(embed(server, input=text)) for text in TEXTS])
    assert together == pytest.approx(alone, abs=1e-6)


def test_answers_come_in_the_order_of_a_request_larger_than_many_batches(
    server: LiveServer,
) -> None:
    texts = [TEXTS[i % len(TEXTS)] for i in range(300)]
    answer = embed(server, input=texts)
    assert [entry["index"] for entry in answer["data"]] == list(range(300))
    once = vectors(embed(server, input=TEXTS))
    assert vectors(answer) == pytest.approx(np.tile(once, (60, 1)), abs=1e-6)


def test_base64_holds_the_same_numbers_as_little_endian_float32(server: LiveServer) -> None:
    plain = vectors(embed(server, input=TEXTS))
    packed = embed(server, input=TEXTS, encoding_format="base64")
    decoded = [np.frombuffer(base64.b64decode(e["embedding"]), "<f4") for e in packed["data"]]
    assert np.array(decoded) == pytest.approx(plain, abs=1e-7)


def test_dimensions_cut_and_scale_back_to_unit_length(server: LiveServer) -> None:
    whole = vectors(embed(server, input=TEXTS))[:, :5]
    cut = vectors(embed(server, input=TEXTS, dimensions=5))
    assert cut == pytest.approx(whole / np.linalg.norm(whole, axis=1, keepdims=True), abs=1e-6)


def test_sentiment_has_scores_that_sum_to_one_and_a_compound(server: LiveServer) -> None:
    response = server.client.post("/v1/sentiment", json={"input": TEXTS})
    answer = response.json()
    assert (answer["object"], answer["model"], answer["version"]) == ("list", "sentiment", "1")
    for index, entry in enumerate(answer["data"]):
        assert list(entry) == [
            *("index", "label", "score", "scores", "truncated", "full_tokens", "compound")
        ]
        assert entry["index"] == index
        assert list(entry["scores"]) == ["negative", "neutral", "positive"]
        assert sum(entry["scores"].values()) == pytest.approx(1, abs=1e-6)
        assert entry["score"] == max(entry["scores"].values()) == entry["scores"][entry["label"]]
        mood = entry["scores"]["positive"] - entry["scores"]["negative"]
        assert entry["compound"] == pytest.approx(mood, abs=1e-6)
        assert entry["truncated"] is False
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > len(TEXTS)


def test_classify_is_sentiment_without_the_compound(server: LiveServer) -> None:
    mood = server.client.post("/v1/sentiment", json={"input": TEXTS}).json()
    plain = server.client.post("/v1/classify", json={"input": TEXTS, "model": "sentiment"}).json()
    for entry in mood["data"]:
        del entry["compound"]
    assert plain == mood


def test_truncation_is_said_and_counted(start_server: ServerFactory) -> None:
    server = start_server()
    long = "the train " * 100
    response = server.client.post("/v1/sentiment", json={"input": ["the train", long]})
    assert [entry["truncated"] for entry in response.json()["data"]] == [False, True]
    assert response.headers["x-truncated-texts"] == "1"
    assert server.count("encserve_truncated_texts_total", model="sentiment") == 1
    assert embed(server, input=long)["usage"]["prompt_tokens"] == 32


def test_models_are_listed_and_found_by_name(server: LiveServer) -> None:
    cards = {card["id"]: card for card in server.client.get("/v1/models").json()["data"]}
    assert set(cards) == {"embedding", "sentiment"}
    assert cards["embedding"]["dimensions"] == 16
    assert cards["sentiment"]["labels"] == ["negative", "neutral", "positive"]
    assert server.client.get("/v1/models/embedding").json() == cards["embedding"]
    assert server.client.get("/v1/models/nothing").status_code == 404


def test_server_is_live_and_ready(server: LiveServer) -> None:
    assert server.client.get("/livez").json() == {"live": True}
    ready = server.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"ready": True, "models": {"embedding": True, "sentiment": True}}


def test_metrics_page_is_what_prometheus_parses(server: LiveServer) -> None:
    page = server.client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=")
    names = {family.name for family in text_string_to_metric_families(page.text)}
    assert {
        "encserve_requests",
        "encserve_request_duration_seconds",
        "encserve_stage_duration_seconds",
        "encserve_queue_texts",
        "encserve_queue_tokens",
        "encserve_batch_texts",
        "encserve_batch_tokens",
        "encserve_rejected_requests",
        "encserve_truncated_texts",
        "encserve_predictions",
        "encserve_model_info",
    } <= names


def test_docs_page_needs_nothing_from_elsewhere(server: LiveServer) -> None:
    page = server.client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert server.client.get(f"/static-offline-docs/{asset}").status_code == 200


def shape_of(answer: Any) -> Any:
    """Names and kinds, without the values; of a list the shape of its entries."""
    if isinstance(answer, dict):
        # FastAPI leaves null out of the page.
        return {name: shape_of(value) for name, value in answer.items() if value is not None}
    if isinstance(answer, list):
        # How many there are depends on the model.
        return sorted({repr(shape_of(value)) for value in answer})
    is_number = isinstance(answer, int | float) and not isinstance(answer, bool)
    return "number" if is_number else type(answer)


def test_every_documented_example_is_answered(server: LiveServer) -> None:
    examples = documented_examples(server)
    assert {path for path, _, _ in examples} >= {
        *("/v1/embeddings", "/v1/sentiment", "/v1/classify", "/v1/analyze")
    }
    for path, request, documented in examples:
        if path == "/decode":
            continue  # its ids are of the default model's vocabulary
        response = server.client.post(path, json=request)
        assert response.status_code == 200, (path, response.text)
        assert shape_of(response.json()) == shape_of(documented)


def test_every_post_documents_its_errors_with_examples(server: LiveServer) -> None:
    schema = server.client.get("/openapi.json").json()
    for path in ("/v1/embeddings", "/v1/sentiment", "/v1/classify"):
        responses = schema["paths"][path]["post"]["responses"]
        assert {"200", "400", "404", "413", "415", "429", "504", "default"} <= set(responses)
        assert "422" not in responses
        examples = responses["400"]["content"]["application/json"]["examples"]
        assert len(examples) >= 2
        assert json.dumps(examples).count('"code"') == len(examples)
