"""text-embeddings-inference's dialect, over HTTP: shapes, statuses, and agreement with our own."""

import time
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import pytest
from starlette.requests import Request

from service.answers import Answer
from service.api.headers import compute_headers
from service.settings import load_settings
from tests.integration.conftest import LiveServer, ServerFactory

TEXTS = ["the food", "the train leaves at nine", "a good good good train", "caf\u00e9 \U0001f642 9"]
LONG = "the train " * 50


def ask(server: LiveServer, path: str, **body: object) -> Any:
    response = server.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def own_vectors(server: LiveServer, **body: object) -> npt.NDArray[np.float64]:
    data = ask(server, "/v1/embeddings", **body)["data"]
    return np.array([entry["embedding"] for entry in data])


def refused(response: httpx2.Response, status: int, kind: str) -> str:
    body = response.json()
    assert (response.status_code, list(body), body["error_type"]) == (
        *(status, ["error", "error_type"], kind),
    )
    return str(body["error"])


def test_vectors_are_those_of_openais_route(server: LiveServer) -> None:
    assert np.array(ask(server, "/embed", inputs=TEXTS)) == pytest.approx(
        own_vectors(server, input=TEXTS), abs=1e-6
    )
    cut = ask(server, "/embed", inputs=TEXTS, dimensions=5)
    assert np.array(cut) == pytest.approx(own_vectors(server, input=TEXTS, dimensions=5), abs=1e-6)


def test_one_string_is_a_list_of_one_vector(server: LiveServer) -> None:
    (alone,) = ask(server, "/embed", inputs=TEXTS[1])
    assert alone == pytest.approx(ask(server, "/embed", inputs=TEXTS)[1], abs=1e-6)


def test_unscaled_vectors_have_the_same_direction(server: LiveServer) -> None:
    scaled = np.array(ask(server, "/embed", inputs=TEXTS))
    raw = np.array(ask(server, "/embed", inputs=TEXTS, normalize=False))
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert raw / lengths == pytest.approx(scaled, abs=1e-6)
    assert np.abs(lengths - 1).min() > 0.01


@pytest.mark.parametrize("left", ["left", "Left"])
def test_too_long_text_is_cut_on_the_side_asked_for_or_refused(
    server: LiveServer, left: str
) -> None:
    ends = ["bad " * 50 + "good food " * 20, "nine " * 50 + "good food " * 20]
    first, second = ask(server, "/embed", inputs=ends, truncation_direction=left)
    assert first == pytest.approx(second, abs=1e-6)
    assert ask(server, "/embed", inputs=ends, truncate=None)[0] != pytest.approx(first, abs=1e-3)
    response = server.client.post("/embed", json={"inputs": LONG, "truncate": False})
    message = refused(response, 422, "Validation")
    assert "102 tokens" in message
    assert "32" in message


def test_vectors_of_tokens_are_pooled_to_the_vector(server: LiveServer) -> None:
    tokens = ask(server, "/embed_all", inputs=TEXTS)
    counts = [len(one) for one in ask(server, "/tokenize", inputs=TEXTS)]
    assert [len(rows) for rows in tokens] == counts
    means = np.array([np.mean(rows, axis=0) for rows in tokens])
    assert means == pytest.approx(
        np.array(ask(server, "/embed", inputs=TEXTS, normalize=False)), abs=1e-5
    )


def test_vectors_of_tokens_are_the_same_alone_and_in_company(server: LiveServer) -> None:
    together = ask(server, "/embed_all", inputs=TEXTS)
    for text, rows in zip(TEXTS, together, strict=True):
        (alone,) = ask(server, "/embed_all", inputs=text)
        assert np.array(alone) == pytest.approx(np.array(rows), abs=1e-5)


def test_prediction_of_one_text_is_flat_and_of_several_a_list_each(server: LiveServer) -> None:
    own = ask(server, "/v1/classify", input=TEXTS)["data"]
    batch = ask(server, "/predict", inputs=[[text] for text in TEXTS])
    for found, entry in zip(batch, own, strict=True):
        scores = [one["score"] for one in found]
        assert scores == sorted(scores, reverse=True)
        assert {one["label"]: one["score"] for one in found} == pytest.approx(entry["scores"])
    for single in (TEXTS[0], [TEXTS[0]]):
        flat = ask(server, "/predict", inputs=single)
        assert [one["label"] for one in flat] == [one["label"] for one in batch[0]]


def test_raw_scores_are_logits(server: LiveServer) -> None:
    raw = {
        one["label"]: one["score"] for one in ask(server, "/predict", inputs="a", raw_scores=True)
    }
    own = ask(server, "/v1/classify", input="a", raw_scores=True)["data"][0]["scores"]
    assert raw == pytest.approx(own, abs=1e-6)


def test_pair_is_refused_by_a_model_of_single_texts(server: LiveServer) -> None:
    response = server.client.post("/predict", json={"inputs": ["a", "b"]})
    assert "pairs" in refused(response, 424, "Backend")


def test_similarity_and_ranks_are_cosines(server: LiveServer) -> None:
    vectors = np.array(ask(server, "/embed", inputs=TEXTS))
    cosines = vectors[1:] @ vectors[0]
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    assert ask(server, "/similarity", inputs=inputs) == pytest.approx(cosines, abs=1e-6)
    ranks = ask(server, "/rerank", query=TEXTS[0], texts=TEXTS[1:], return_text=True)
    assert sorted(rank["index"] for rank in ranks) == [0, 1, 2]
    assert [rank["score"] for rank in ranks] == pytest.approx(sorted(cosines, reverse=True))
    for rank in ranks:
        assert rank["text"] == TEXTS[1:][rank["index"]]
        assert rank["score"] == pytest.approx(cosines[rank["index"]], abs=1e-6)
    assert "text" not in ask(server, "/rerank", query="a", texts=["b"])[0]


def test_tokens_stand_at_their_places_in_characters(server: LiveServer) -> None:
    for text, tokens in zip(TEXTS, ask(server, "/tokenize", inputs=TEXTS), strict=True):
        assert [tokens[0]["special"], tokens[-1]["special"]] == [True, True]
        for token in tokens:
            assert list(token) == ["id", "text", "special", "start", "stop"]
            if token["special"]:
                assert token["start"] is token["stop"] is None
            else:
                assert text[token["start"] : token["stop"]] == token["text"]
        bare = ask(server, "/tokenize", inputs=text, add_special_tokens=False)[0]
        assert bare == tokens[1:-1]


def test_many_and_long_texts_are_tokenized_and_decoded_in_order(server: LiveServer) -> None:
    """More than is done at once."""
    texts = [f"{'the train leaves ' * 300}{number % 10}" for number in range(20)]
    tokens = ask(server, "/tokenize", inputs=texts)
    assert tokens == [ask(server, "/tokenize", inputs=text)[0] for text in texts]
    ids = [[token["id"] for token in one] for one in tokens]
    assert ask(server, "/decode", ids=ids) == [ask(server, "/decode", ids=one)[0] for one in ids]


def test_text_to_tokenize_has_the_limit_of_every_text(start_server: ServerFactory) -> None:
    server = start_server(max_text_chars=20)
    assert len(ask(server, "/tokenize", inputs=["a" * 20])) == 1
    response = server.client.post("/tokenize", json={"inputs": ["fine", "a" * 21]})
    refused(response, 422, "Validation")
    assert "ENCSERVE_MAX_TEXT_CHARS" in response.json()["error"]


def test_decoding_gives_the_words_back(server: LiveServer) -> None:
    (tokens,) = ask(server, "/tokenize", inputs="the train leaves")
    ids = [token["id"] for token in tokens]
    assert ask(server, "/decode", ids=ids) == ["the train leaves"]
    assert ask(server, "/decode", ids=[ids, ids[1:2]]) == ["the train leaves", "the"]
    whole = ask(server, "/decode", ids=ids, skip_special_tokens=False)[0]
    assert whole == "[CLS] the train leaves [SEP]"
    for foreign in ([10**6], [[-1]]):
        response = server.client.post("/decode", json={"ids": foreign})
        refused(response, 422, "Validation")


def test_facts_are_those_of_the_default_model(server: LiveServer) -> None:
    facts = server.client.get("/info").json()
    assert {"model_id", "model_sha", "model_dtype", "model_type", "max_input_length"} <= set(facts)
    assert (facts["model_id"], facts["max_input_length"]) == ("embedding", 32)
    assert facts["model_type"] == {"embedding": {"pooling": "mean"}}
    assert facts["rerank"] == "cosine of embedding"
    assert facts["models"] == ["embedding", "sentiment"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_is_empty(server: LiveServer, method: str) -> None:
    response = server.client.request(method, "/health")
    assert (response.status_code, response.content) == (200, b"")


def test_timing_headers_tell_of_this_request(server: LiveServer) -> None:
    response = server.client.post("/embed", json={"inputs": TEXTS})
    headers = response.headers
    assert headers["x-compute-type"] == "cpu"
    assert int(headers["x-compute-characters"]) == sum(map(len, TEXTS))
    tokens = sum(len(one) for one in ask(server, "/tokenize", inputs=TEXTS))
    assert int(headers["x-compute-tokens"]) == tokens
    parts = [int(headers[f"x-{part}-time"]) for part in ("tokenization", "queue", "inference")]
    # each is rounded for itself
    assert sum(parts) <= int(headers["x-total-time"]) + 2


def test_timing_headers_are_whole_milliseconds_of_each_stage() -> None:
    scope = {
        "type": "http",
        "app": SimpleNamespace(state=SimpleNamespace(settings=load_settings())),
        "state": {"started_s": time.perf_counter() - 90},
    }
    answer = Answer(
        rows=np.zeros((2, 1), np.float32),
        tokens=[3, 4],
        full_tokens=[3, 4],
        truncated=[False, False],
        tokenize_s=0.011,
        queue_s=0.022,
        infer_s=0.0334,
    )
    headers = compute_headers(Request(scope), answer, ["one", "four"])
    assert headers.pop("x-compute-type") == "cpu"
    for name in ("x-compute-time", "x-total-time"):
        assert 90_000 <= int(headers.pop(name)) < 100_000
    assert headers == {
        "x-compute-characters": "7",
        "x-compute-tokens": "7",
        "x-tokenization-time": "11",
        "x-queue-time": "22",
        "x-inference-time": "33",
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", {"inputs": ""}, 400, "Empty"),
        ("/embed", {"inputs": ["a", " "]}, 400, "Empty"),
        ("/embed", {}, 422, "Validation"),
        ("/embed", {"inputs": 5}, 422, "Validation"),
        ("/embed", {"inputs": [5]}, 422, "Validation"),
        ("/embed", {"inputs": [["a"]]}, 422, "Validation"),
        ("/embed", {"inputs": "a", "dimensions": 0}, 422, "Validation"),
        ("/embed", {"inputs": "a", "dimensions": 17}, 422, "Validation"),
        ("/embed", {"inputs": "a", "truncation_direction": "up"}, 422, "Validation"),
        ("/embed", {"inputs": "a", "prompt_name": "query"}, 422, "Validation"),
        ("/embed", {"inputs": "a", "model": "sentiment"}, 424, "Backend"),
        ("/embed", {"inputs": "a", "model": "nothing"}, 404, "Validation"),
        ("/embed", {"inputs": ["a"] * 2049}, 422, "Validation"),
        ("/predict", {"inputs": []}, 400, "Empty"),
        ("/predict", {"inputs": [["a", "b", "c"]]}, 422, "Validation"),
        ("/predict", {"inputs": ["a"] * 3}, 422, "Validation"),
        ("/predict", {"inputs": "a", "model": "embedding"}, 424, "Backend"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "Empty"),
        ("/rerank", {"query": "a", "texts": []}, 400, "Empty"),
        ("/rerank", {"query": "a", "texts": ["b"], "model": "sentiment"}, 424, "Backend"),
        ("/tokenize", {"inputs": []}, 400, "Empty"),
        ("/decode", {"ids": []}, 400, "Empty"),
        ("/", {"inputs": []}, 400, "Empty"),
        ("/", {"inputs": "a", "parameters": {"candidate_labels": []}}, 422, "Validation"),
        ("/", {"inputs": "a", "parameters": {"function_to_apply": "x"}}, 422, "Validation"),
    ],
    ids=str,
)
def test_errors_have_the_dialects_status_and_kind(
    server: LiveServer, path: str, body: dict[str, object], status: int, kind: str
) -> None:
    refused(server.client.post(path, json=body), status, kind)


def test_bodies_that_cannot_be_read_have_the_dialects_shape(server: LiveServer) -> None:
    refused(server.client.post("/embed", content=b"{"), 415, "Validation")
    json = {"Content-Type": "application/json"}
    refused(server.client.post("/embed", content=b"{", headers=json), 400, "Validation")
    huge = b'{"inputs":"' + b"a" * 5_000_000 + b'"}'
    refused(server.client.post("/embed", content=huge, headers=json), 413, "Validation")


def test_root_tells_the_task_from_the_bodys_shape(server: LiveServer) -> None:
    assert ask(server, "/", inputs=["a"]) == ask(server, "/embed", inputs=["a"])
    inputs = {"source_sentence": "a", "sentences": ["b"]}
    assert ask(server, "/", inputs=inputs) == ask(server, "/similarity", inputs=inputs)
    ranked = ask(server, "/rerank", query="a", texts=["b", "the"])
    assert ask(server, "/", query="a", texts=["b", "the"]) == ranked
    labels = ask(server, "/", inputs="a", parameters={})
    assert labels == [ask(server, "/predict", inputs="a")]
    raw = ask(server, "/", inputs="a", parameters={"function_to_apply": "none", "top_k": 1})
    assert raw == [ask(server, "/predict", inputs="a", raw_scores=True)[:1]]
