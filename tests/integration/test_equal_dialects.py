"""The same text has the same numbers whichever dialect asks."""

import base64
import json

import numpy as np
import numpy.typing as npt
import pytest

from tests.integration.conftest import LiveServer

TEXTS = ["the food", "the train leaves at nine", "caf\u00e9 \U0001f642", "bad " * 50]

FloatArray = npt.NDArray[np.float64]


def tensor() -> dict[str, object]:
    return {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}


def vectors(server: LiveServer) -> dict[str, FloatArray]:
    """[texts, dimensions] by the way they came."""

    def post(path: str, **body: object) -> object:
        response = server.client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    lines = "".join(json.dumps(text) + "\n" for text in TEXTS)
    ndjson = {"Content-Type": "application/x-ndjson"}
    bulk = server.client.post("/v1/bulk", content=lines.encode(), headers=ndjson)
    openai: dict[str, list[dict[str, object]]] = post("/v1/embeddings", input=TEXTS)  # type: ignore[assignment]
    packed: dict[str, list[dict[str, str]]] = post(  # type: ignore[assignment]
        "/v1/embeddings", input=TEXTS, encoding_format="base64"
    )
    analyzed: dict[str, list[dict[str, dict[str, object]]]] = post("/v1/analyze", input=TEXTS)  # type: ignore[assignment]
    oip: dict[str, list[dict[str, object]]] = post("/v2/models/embedding/infer", inputs=[tensor()])  # type: ignore[assignment]
    cohere: dict[str, dict[str, object]] = post("/v2/embed", texts=TEXTS)  # type: ignore[assignment]
    found: dict[str, object] = {
        "openai": [entry["embedding"] for entry in openai["data"]],
        "base64": [
            np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in packed["data"]
        ],
        "analyze": [entry["embedding"]["embedding"] for entry in analyzed["data"]],
        "embed": post("/embed", inputs=TEXTS),
        "root": post("/", inputs=TEXTS),
        "oip": np.reshape(np.array(oip["outputs"][0]["data"]), (len(TEXTS), -1)),
        "cohere": cohere["embeddings"]["float"],
        "bulk": [json.loads(line)["embedding"] for line in bulk.text.splitlines()[:-1]],
    }
    return {name: np.array(rows, dtype=np.float64) for name, rows in found.items()}


def test_vectors_are_equal_through_every_dialect(server: LiveServer) -> None:
    openai, *others = vectors(server).items()
    assert openai[1].shape == (len(TEXTS), 16)
    for name, rows in others:
        assert rows == pytest.approx(openai[1], abs=1e-6), name


def test_labels_are_equal_through_every_dialect(server: LiveServer) -> None:
    own = server.client.post("/v1/classify", json={"input": TEXTS}).json()["data"]
    scores = [entry["scores"] for entry in own]
    moods = server.client.post("/v1/sentiment", json={"input": TEXTS}).json()["data"]
    tei = server.client.post("/predict", json={"inputs": [[text] for text in TEXTS]}).json()
    root = server.client.post("/", json={"inputs": TEXTS, "parameters": {}}).json()
    oip = server.client.post("/v2/models/sentiment/infer", json={"inputs": [tensor()]}).json()
    rows = np.reshape(oip["outputs"][0]["data"], (len(TEXTS), 3)).tolist()
    labels = list(scores[0])
    ways: dict[str, list[dict[str, float]]] = {
        "sentiment": [entry["scores"] for entry in moods],
        "predict": [{one["label"]: one["score"] for one in found} for found in tei],
        "root": [{one["label"]: one["score"] for one in found} for found in root],
        "oip": [dict(zip(labels, row, strict=True)) for row in rows],
    }
    for name, found in ways.items():
        for ours, theirs in zip(scores, found, strict=True):
            assert theirs == pytest.approx(ours, abs=1e-6), name
    assert oip["outputs"][1]["data"] == [entry["label"] for entry in own]
