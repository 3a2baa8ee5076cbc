"""Models that judge pairs, and models with any number of labels, over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import LiveServer, live_server

PAIRS = [["the food", "good food"], ["a train", "the leaves at nine"], ["bad " * 30, "nine " * 30]]
TEXTS = [pair[1] for pair in PAIRS]


@pytest.fixture(scope="module")
def server(judges: Path) -> Iterator[LiveServer]:
    with live_server(judges, cache_bytes=0) as running:
        yield running


def ask(server: LiveServer, path: str, **body: object) -> Any:
    response = server.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def test_pairs_are_judged_the_same_alone_and_in_company_and_by_every_dialect(
    server: LiveServer,
) -> None:
    own = ask(server, "/v1/classify", input=PAIRS, model="judge")
    scores = [entry["scores"]["score"] for entry in own["data"]]
    assert [entry["truncated"] for entry in own["data"]] == [False, False, True]
    together = ask(server, "/predict", inputs=PAIRS, model="judge")
    assert [found[0]["score"] for found in together] == pytest.approx(scores, abs=1e-6)
    for pair, score in zip(PAIRS, scores, strict=True):
        (alone,) = ask(server, "/predict", inputs=pair, model="judge")
        assert alone["score"] == pytest.approx(score, abs=1e-6)
    data = [text for pair in PAIRS for text in pair]
    tensor = {"name": "text", "shape": [3, 2], "datatype": "BYTES", "data": data}
    inferred = ask(server, "/v2/models/judge/infer", inputs=[tensor])["outputs"][0]["data"]
    assert inferred == pytest.approx(scores, abs=1e-6)


def test_order_within_a_pair_counts(server: LiveServer) -> None:
    there, back = ask(
        server,
        "/v1/classify",
        input=[["the food", "a bad train"], ["a bad train", "the food"]],
        model="judge",
    )["data"]
    assert there["score"] != pytest.approx(back["score"], abs=1e-4)


def test_ranks_are_the_cross_encoders_scores(server: LiveServer) -> None:
    query = "the food"
    ranks = ask(server, "/rerank", query=query, texts=TEXTS)
    pairs = ask(server, "/predict", inputs=[[query, text] for text in TEXTS], model="judge")
    assert {rank["index"]: rank["score"] for rank in ranks} == pytest.approx(
        {index: found[0]["score"] for index, found in enumerate(pairs)}, abs=1e-6
    )
    assert [rank["score"] for rank in ranks] == sorted((r["score"] for r in ranks), reverse=True)
    raw = ask(server, "/rerank", query=query, texts=TEXTS, raw_scores=True)
    assert [rank["index"] for rank in raw] == [rank["index"] for rank in ranks]
    for logit, rank in zip(raw, ranks, strict=True):
        assert sigmoid(logit["score"]) == pytest.approx(rank["score"], abs=1e-6)
    assert server.client.get("/info").json()["rerank"] == "cross-encoder of judge"


def test_single_text_for_a_judge_of_pairs_is_refused_in_every_dialect(server: LiveServer) -> None:
    for path, body, status in (
        ("/v1/classify", {"input": "a", "model": "judge"}, 400),
        ("/predict", {"inputs": "a", "model": "judge"}, 424),
        (
            "/v2/models/judge/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
            400,
        ),
    ):
        response = server.client.post(path, json=body)
        assert response.status_code == status
        assert "two texts together" in response.text


def test_half_of_a_pair_that_is_blank_is_at_fault(server: LiveServer) -> None:
    response = server.client.post(
        "/v1/classify", json={"input": [["a", "b"], ["a", " "]], "model": "judge"}
    )
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input[1]")
    body = {"input": [["a", "b"], ["a", " "]], "model": "judge", "on_error": "partial"}
    good, bad = server.client.post("/v1/classify", json=body).json()["data"]
    assert "error" not in good
    assert bad["error"]["code"] == "blank_text"


def test_pairs_are_not_spread_over_windows(server: LiveServer) -> None:
    body = {"input": PAIRS, "model": "judge", "overflow": "windows"}
    assert server.client.post("/v1/classify", json=body).status_code == 400


def test_labels_that_do_not_exclude_each_other_are_scored_each_by_itself(
    server: LiveServer,
) -> None:
    raw = ask(server, "/predict", inputs="good food", model="topics", raw_scores=True)
    scores = ask(server, "/predict", inputs="good food", model="topics")
    for logit, score in zip(raw, scores, strict=True):
        assert score["label"] == logit["label"]
        assert score["score"] == pytest.approx(sigmoid(logit["score"]), abs=1e-6)
    assert sum(score["score"] for score in scores) != pytest.approx(1, abs=1e-3)
