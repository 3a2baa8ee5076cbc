"""Triton's own HTTP client against our server, and the protocol's rough edges by hand."""

import gzip
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from tests.integration.conftest import LiveServer

TEXTS = ["the train leaves at nine", "good food", "caf\u00e9 \U0001f642"]
LABELS = ("negative", "neutral", "positive")
HEADER_LENGTH = "Inference-Header-Content-Length"


@pytest.fixture
def client(server: LiveServer) -> Iterator[Any]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


def text_input(texts: list[str], *, binary: bool = True) -> Any:
    tensor = triton.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, dtype=np.object_), binary_data=binary)
    return tensor


def vectors(server: LiveServer, texts: list[str]) -> npt.NDArray[np.float64]:
    data = server.client.post("/v1/embeddings", json={"input": texts}).json()["data"]
    return np.array([entry["embedding"] for entry in data])


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_vectors_are_those_of_the_other_routes(
    client: Any, server: LiveServer, binary: bool
) -> None:
    asked = [triton.InferRequestedOutput("embedding", binary_data=binary)]
    answer = client.infer("embedding", [text_input(TEXTS, binary=binary)], outputs=asked)
    assert answer.as_numpy("embedding").dtype == np.float32
    assert answer.as_numpy("embedding") == pytest.approx(vectors(server, TEXTS), abs=1e-6)


def test_without_outputs_all_come_in_binary(client: Any, server: LiveServer) -> None:
    answer = client.infer("sentiment", [text_input(TEXTS)], request_id="a-7")
    own = server.client.post("/v1/classify", json={"input": TEXTS}).json()["data"]
    scores = [list(entry["scores"].values()) for entry in own]
    assert answer.as_numpy("scores") == pytest.approx(np.array(scores), abs=1e-6)
    winners = [label.decode() for label in answer.as_numpy("label")]
    assert winners == [entry["label"] for entry in own]
    response = answer.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == (
        *("a-7", "sentiment", "1"),
    )


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_classification_extension_names_the_best_labels(client: Any, binary: bool) -> None:
    asked = [triton.InferRequestedOutput("scores", binary_data=binary, class_count=2)]
    answer = client.infer("sentiment", [text_input(TEXTS)], outputs=asked)
    whole = client.infer("sentiment", [text_input(TEXTS)]).as_numpy("scores")
    found = answer.as_numpy("scores")
    assert found.shape == (3, 2)
    for row, best in zip(whole, found, strict=True):
        order = np.argsort(-row)[:2]
        for index, written in zip(order, best, strict=True):
            text = written.decode() if isinstance(written, bytes) else written
            score, place, label = text.split(":")
            assert (int(place), label) == (index, LABELS[index])
            assert float(score) == pytest.approx(row[index], abs=1e-5)


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: Any, server: LiveServer, compression: str) -> None:
    answer = client.infer(
        "embedding", [text_input(TEXTS)], request_compression_algorithm=compression
    )
    assert answer.as_numpy("embedding") == pytest.approx(vectors(server, TEXTS), abs=1e-6)


def test_own_parameters_reach_the_engine(client: Any, server: LiveServer) -> None:
    answer = client.infer("embedding", [text_input(TEXTS)], parameters={"dimensions": 4})
    assert answer.as_numpy("embedding").shape == (3, 4)
    with pytest.raises(InferenceServerException, match="32"):
        client.infer("embedding", [text_input(["a " * 99])], parameters={"overflow": "error"})
    with pytest.raises(InferenceServerException, match="version 1"):
        client.infer("embedding", [text_input(TEXTS)], parameters={"expected_version": "7"})


def test_timeout_in_microseconds_and_priority_are_honoured(client: Any) -> None:
    assert client.infer("embedding", [text_input(TEXTS)], priority=2, timeout=10_000_000)
    many = [f"train {number} leaves at nine" for number in range(2000)]
    with pytest.raises(InferenceServerException, match="no answer within"):
        client.infer("embedding", [text_input(many)], timeout=1000)


def test_server_and_models_describe_themselves(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sentiment")
    assert client.is_model_ready("sentiment", "1")
    assert not client.is_model_ready("sentiment", "2")
    assert not client.is_model_ready("nothing")
    assert {"classification", "binary_tensor_data"} <= set(
        client.get_server_metadata()["extensions"]
    )
    metadata = client.get_model_metadata("sentiment", "1")
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [output["shape"] for output in metadata["outputs"]] == [[-1, 3], [-1]]
    config = client.get_model_config("embedding")
    assert (config["input"][0]["data_type"], config["output"][0]["dims"]) == (
        *("TYPE_STRING", [-1, 16]),
    )
    index = client.get_model_repository_index()
    assert {(entry["name"], entry["version"], entry["state"]) for entry in index} == {
        *(("embedding", "1", "READY"), ("sentiment", "1", "READY"))
    }


def test_statistics_count_what_was_computed(client: Any) -> None:
    def counted() -> int:
        (stats,) = client.get_inference_statistics("embedding")["model_stats"]
        return int(stats["inference_count"])

    before = counted()
    client.infer("embedding", [text_input(["one more", "and another"])])
    assert counted() == before + 2
    assert len(client.get_inference_statistics()["model_stats"]) == 2


def test_errors_are_the_clients_exceptions_with_our_sentences(client: Any) -> None:
    for model, tensor, sentence in (
        ("nothing", text_input(["a"]), "no such model"),
        ("embedding", text_input(["a", " "]), "empty or blank"),
        ("embedding", triton.InferInput("other", [1], "BYTES"), "one input"),
    ):
        if tensor.name() == "other":
            tensor.set_data_from_numpy(np.array(["a"], dtype=np.object_))
        with pytest.raises(InferenceServerException, match=sentence):
            client.infer(model, [tensor])


# --- the edges, by hand


def infer(server: LiveServer, body: dict[str, object] | bytes, **headers: str) -> Any:
    if isinstance(body, dict):
        return server.client.post("/v2/models/embedding/infer", json=body, headers=headers)
    return server.client.post("/v2/models/embedding/infer", content=body, headers=headers)


def tensor(**change: object) -> dict[str, object]:
    return {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]} | change


def test_nested_data_and_a_column_are_the_same_texts(server: LiveServer) -> None:
    flat = infer(server, {"inputs": [tensor()]}).json()["outputs"][0]
    for shape, data in (([2, 1], [["a"], ["b"]]), ([2, 1], ["a", "b"])):
        nested = infer(server, {"inputs": [tensor(shape=shape, data=data)]}).json()["outputs"][0]
        assert nested["shape"] == flat["shape"] == [2, 16]
        assert nested["data"] == pytest.approx(flat["data"], abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3]},
        {"shape": [0]},
        {"shape": [-2]},
        {"shape": []},
        {"shape": [1, 1, 2]},
        {"shape": [2**62, 2**62]},
        {"shape": [10**30]},
        {"shape": "2"},
        {"datatype": "FP32"},
        {"data": [1, 2]},
        {"data": "ab"},
        {"data": None},
        {"data": [["a", ["b"]]]},
        {"name": "texts"},
        {"parameters": {"binary_data_size": 5}},
        {"parameters": {"binary_data_size": -1}},
        {"parameters": {"binary_data_size": "5"}},
        {"parameters": {"binary_data_size": True}},
    ],
    ids=str,
)
def test_tensor_that_does_not_agree_with_itself_is_refused(
    server: LiveServer, change: dict[str, object]
) -> None:
    response = infer(server, {"inputs": [tensor(**change)]})
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert isinstance(response.json()["error"], str)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": []},
        {"inputs": [tensor()] * 2},
        {"outputs": [{"name": "label"}]},
        {"outputs": [{"name": "embedding", "parameters": {"classification": -1}}]},
        {"parameters": {"priority": -1}},
        {"parameters": {"timeout": "soon"}},
        {"parameters": {"dimensions": 99}},
        {"parameters": {"overflow": "spill"}},
    ],
    ids=str,
)
def test_request_that_asks_for_what_there_is_not_is_refused(
    server: LiveServer, change: dict[str, object]
) -> None:
    response = infer(server, {"inputs": [tensor()]} | change)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]


HEAD = (
    b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES",'
    b'"parameters":{"binary_data_size":%d}}]}'
)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01",
        struct.pack("<I", 5) + b"abc",
        struct.pack("<I", 2**32 - 1) + b"abc",
        struct.pack("<I", 2) + b"\xff\xfe",
        struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b",
    ],
    ids=["nothing", "half a length", "too short", "huge", "no UTF-8", "two for one"],
)
def test_raw_elements_that_do_not_fit_are_refused(server: LiveServer, raw: bytes) -> None:
    head = HEAD % len(raw)
    response = infer(server, head + raw, **{HEADER_LENGTH: str(len(head))})
    assert response.status_code == 400
    assert list(response.json()) == ["error"]


@pytest.mark.parametrize("length", ["-1", "999999", "soon", "1e3", "9" * 40])
def test_header_length_that_is_none_is_refused(server: LiveServer, length: str) -> None:
    response = infer(server, {"inputs": [tensor()]}, **{HEADER_LENGTH: length})
    assert response.status_code == 400
    assert HEADER_LENGTH in response.json()["error"]


def test_compressed_body_may_not_grow_over_the_limit(server: LiveServer) -> None:
    bomb = gzip.compress(b" " * 30_000_000)
    assert len(bomb) < 100_000
    response = infer(server, bomb, **{"Content-Encoding": "gzip"})
    assert response.status_code == 413
    broken = gzip.compress(b"{}")[:-3]
    assert infer(server, broken, **{"Content-Encoding": "gzip"}).status_code == 400
    assert infer(server, b"{}", **{"Content-Encoding": "br"}).status_code == 415


def test_unknown_path_below_v2_answers_in_the_dialect(server: LiveServer) -> None:
    assert isinstance(server.client.get("/v2/models/a/b/c").json()["error"], str)


GOOD = HEAD % 5 + struct.pack("<I", 1) + b"a"


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-3, 3),
    st.integers(0, len(GOOD)),
)
def test_no_mutated_binary_request_is_the_servers_fault(
    server: LiveServer, changes: list[tuple[int, int]], shift: int, cut: int
) -> None:
    body = bytearray(GOOD)
    for place, value in changes:
        body[place] = value
    length = max(0, len(HEAD % 5) + shift)
    response = infer(
        server, bytes(body[:cut] if shift == 0 else body), **{HEADER_LENGTH: str(length)}
    )
    assert response.status_code < 500, response.text
