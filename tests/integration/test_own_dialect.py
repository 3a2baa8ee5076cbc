"""What our own routes offer beyond others': said truncation, windows, partial answers, labels."""

import io
import math
from typing import Any

import httpx2
import numpy as np
import pytest
import tokenizers

from service.store.repository import ModelRepository
from tests.integration.conftest import LiveServer

LONG = "the train leaves at nine and " * 20
TEXTS = ["the food", "a good train", LONG]
MAX_TOKENS = 32


def post(server: LiveServer, path: str, **body: object) -> Any:
    response = server.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def embed(server: LiveServer, **body: object) -> np.ndarray[Any, np.dtype[np.float64]]:
    answer = post(server, "/v1/embeddings", **body)
    return np.array([entry["embedding"] for entry in answer["data"]])


def refused(response: httpx2.Response, status: int, code: str, param: str | None) -> str:
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    return str(error["message"])


# --- texts longer than the model reads


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/classify", "/v1/sentiment"])
def test_whole_length_and_truncation_are_said_of_each_text(server: LiveServer, path: str) -> None:
    data = post(server, path, input=TEXTS)["data"]
    assert [entry["truncated"] for entry in data] == [False, False, True]
    assert [entry["full_tokens"] for entry in data[:2]] == [4, 5]
    # every word but "and" is one token; "and" is three letters
    assert data[2]["full_tokens"] == 20 * (5 + 3) + 2


def test_refused_overflow_names_limit_and_length(server: LiveServer) -> None:
    response = server.client.post("/v1/embeddings", json={"input": TEXTS, "overflow": "error"})
    message = refused(response, 400, "text_too_long", "input[2]")
    assert "162 tokens" in message
    assert "32" in message


def test_left_truncation_reads_the_end(server: LiveServer) -> None:
    ends = [
        "the leaves " * 20 + "good food is a bad train " * 8,
        "a nine " * 30 + "good food is a bad train " * 8,
    ]
    right = embed(server, input=ends)
    left = embed(server, input=ends, truncation_direction="left")
    assert left[0] == pytest.approx(left[1], abs=1e-6)
    assert right[0] != pytest.approx(right[1], abs=1e-2)


def test_windows_of_a_text_are_their_token_weighted_mean(server: LiveServer) -> None:
    words = [f"{'good' if n % 7 else 'bad'}" for n in range(70)]
    whole = embed(server, input=" ".join(words), overflow="windows")[0]
    # 30 words fit beside the two special tokens; windows overlap by an eighth of that
    starts = [0, 27, 40]
    spans = [" ".join(words[start : start + 30]) for start in starts]
    pooled = server.client.post("/embed", json={"inputs": spans, "normalize": False}).json()
    expected = np.array(pooled).mean(axis=0)
    assert whole == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
    assert not post(server, "/v1/embeddings", input=LONG, overflow="windows")["data"][0][
        "truncated"
    ]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_labels_of_windows_are_put_together_as_asked(server: LiveServer, pooling: str) -> None:
    words = ["good" if n < 30 else "bad" for n in range(57)]
    spans = [" ".join(words[:30]), " ".join(words[27:])]
    apart = post(server, "/v1/classify", input=spans)["data"]
    whole = post(server, "/v1/classify", input=" ".join(words), overflow="windows", windows=pooling)
    for label, score in whole["data"][0]["scores"].items():
        found = [one["scores"][label] for one in apart]
        expected = max(found) if pooling == "max" else sum(found) / 2
        assert score == pytest.approx(expected, abs=1e-5)


def test_short_texts_are_the_same_with_windows(server: LiveServer) -> None:
    assert embed(server, input=TEXTS[:2], overflow="windows") == pytest.approx(
        embed(server, input=TEXTS[:2]), abs=1e-7
    )


# --- one bad text among good ones


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/classify", "/v1/sentiment"])
def test_partial_answer_has_an_error_in_the_place_of_the_bad_text_alone(
    server: LiveServer, path: str
) -> None:
    texts = ["the food", " ", LONG, "good", "\u200b"]
    answer = post(server, path, input=texts, on_error="partial", overflow="error")
    errors = {e["index"]: e["error"]["code"] for e in answer["data"] if e.get("error")}
    assert errors == {1: "blank_text", 2: "text_too_long", 4: "blank_text"}
    assert [entry["index"] for entry in answer["data"]] == list(range(5))
    sound = post(server, path, input=["the food", "good"])["data"]
    for index, expected in zip((0, 3), sound, strict=True):
        assert flat(answer["data"][index] | {"index": 0}) == pytest.approx(
            flat(expected | {"index": 0}), abs=1e-6
        )
    assert answer["usage"]["total_tokens"] == sum(entry["full_tokens"] for entry in sound)


def test_partial_answer_may_hold_nothing_but_errors(server: LiveServer) -> None:
    answer = post(server, "/v1/embeddings", input=["", " "], on_error="partial")
    assert [entry["embedding"] for entry in answer["data"]] == [None, None]


def flat(entry: Any) -> list[float]:
    if isinstance(entry, dict):
        return [number for value in entry.values() for number in flat(value)]
    if isinstance(entry, list):
        return [number for value in entry for number in flat(value)]
    return [float(entry)] if isinstance(entry, int | float) else []


# --- forms of a vector


def test_quantized_forms_are_made_of_the_cut_and_rescaled_vector(server: LiveServer) -> None:
    cut = embed(server, input=TEXTS, dimensions=10)
    forms = {
        form: embed(server, input=TEXTS, dimensions=10, encoding_format=form)
        for form in ("int8", "uint8", "binary", "ubinary")
    }
    for vector, quantized in zip(cut, forms["int8"], strict=True):
        assert quantized == pytest.approx(vector * 127 / np.abs(vector).max(), abs=0.5001)
    assert forms["uint8"] == pytest.approx(forms["int8"] + 128)
    bits = np.unpackbits(forms["ubinary"].astype(np.uint8), axis=1)
    assert forms["ubinary"].shape == (3, 2)
    assert (bits[:, :10] == (cut > 0)).all()
    assert not bits[:, 10:].any()
    assert forms["binary"] == pytest.approx(forms["ubinary"] - 128)


def test_quantized_vector_does_not_depend_on_its_neighbours(server: LiveServer) -> None:
    together = embed(server, input=TEXTS, encoding_format="int8")
    alone = np.concatenate([embed(server, input=text, encoding_format="int8") for text in TEXTS])
    # Rounding may fall either way where float32 sums differ in their last bit.
    assert np.abs(together - alone).max() <= 1


@pytest.mark.parametrize(("form", "dtype"), [("float", "<f4"), ("int8", "i1"), ("ubinary", "u1")])
def test_bare_arrays_hold_the_same_numbers(server: LiveServer, form: str, dtype: str) -> None:
    body = {"input": TEXTS, "encoding_format": form}
    expected = embed(server, **body)
    raw = server.client.post(
        "/v1/embeddings", json=body, headers={"Accept": "application/octet-stream"}
    )
    shape = tuple(map(int, raw.headers["x-vectors-shape"].split(",")))
    assert np.frombuffer(raw.content, dtype).reshape(shape) == pytest.approx(expected, abs=1e-6)
    npy = server.client.post("/v1/embeddings", json=body, headers={"Accept": "application/x-npy"})
    loaded = np.load(io.BytesIO(npy.content), allow_pickle=False)
    assert loaded.dtype == np.dtype(dtype)
    assert loaded == pytest.approx(expected, abs=1e-6)


# --- labels


def test_top_k_and_threshold_leave_out_labels(server: LiveServer) -> None:
    whole = post(server, "/v1/classify", input="good food")["data"][0]
    ranked = sorted(whole["scores"].items(), key=lambda item: -item[1])
    two = post(server, "/v1/classify", input="good food", top_k=2)["data"][0]
    assert list(two["scores"]) == [label for label, _ in ranked[:2]]
    assert two["scores"] == pytest.approx(dict(ranked[:2]))
    between = (ranked[0][1] + ranked[1][1]) / 2
    one = post(server, "/v1/classify", input="good food", threshold=between)["data"][0]
    assert list(one["scores"]) == [whole["label"]] == [one["label"]]
    none = post(server, "/v1/sentiment", input="good food", threshold=1.0)["data"][0]
    assert (none["label"], none["scores"]) == (None, {})
    assert none["score"] == pytest.approx(whole["score"])


def test_raw_scores_are_the_logits_behind_the_probabilities(server: LiveServer) -> None:
    raw = post(server, "/v1/sentiment", input="good food", raw_scores=True)["data"][0]
    assert "compound" not in raw
    powers = {label: math.exp(score) for label, score in raw["scores"].items()}
    scores = post(server, "/v1/classify", input="good food")["data"][0]["scores"]
    for label, power in powers.items():
        assert scores[label] == pytest.approx(power / sum(powers.values()), abs=1e-6)


def test_calibrated_thresholds_need_a_calibrated_model(server: LiveServer) -> None:
    body = {"input": "good", "threshold": "calibrated"}
    refused(server.client.post("/v1/classify", json=body), 400, "invalid_field", "threshold")


def test_own_labels_sum_to_one_and_each_by_itself_need_not(server: LiveServer) -> None:
    labels = ["food", "trains", "good food"]
    body = {"input": TEXTS, "candidate_labels": labels}
    answer = post(server, "/v1/classify", **body)
    assert answer["model"] == "embedding"
    for entry in answer["data"]:
        assert list(entry["scores"]) == labels
        assert sum(entry["scores"].values()) == pytest.approx(1, abs=1e-6)
        assert entry["score"] == max(entry["scores"].values()) == entry["scores"][entry["label"]]
    alone = post(
        server, "/v1/classify", **body | {"candidate_labels": ["food"], "multi_label": True}
    )
    among = post(server, "/v1/classify", **body | {"multi_label": True})
    for one, many in zip(alone["data"], among["data"], strict=True):
        assert one["scores"]["food"] == pytest.approx(many["scores"]["food"], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"hypothesis_template": "about"}, "invalid_field", "hypothesis_template"),
        ({"candidate_labels": ["a", "a"]}, "invalid_field", "candidate_labels"),
        ({"candidate_labels": ["a", " "]}, "blank_text", "candidate_labels[1]"),
        ({"raw_scores": True}, "invalid_field", "candidate_labels"),
        ({"model": "sentiment"}, "wrong_task", "model"),
    ],
)
def test_own_labels_that_cannot_be_judged_are_refused(
    server: LiveServer, change: dict[str, object], code: str, param: str
) -> None:
    body = {"input": "a", "candidate_labels": ["b"]} | change
    refused(server.client.post("/v1/classify", json=body), 400, code, param)


def test_analysis_is_what_both_routes_say(server: LiveServer) -> None:
    both = post(server, "/v1/analyze", input=TEXTS, dimensions=4)
    moods = post(server, "/v1/sentiment", input=TEXTS)
    vectors = post(server, "/v1/embeddings", input=TEXTS, dimensions=4)
    for entry, mood, vector in zip(both["data"], moods["data"], vectors["data"], strict=True):
        assert flat(entry["sentiment"]) == pytest.approx(flat(mood), abs=1e-6)
        assert flat(entry["embedding"]) == pytest.approx(flat(vector), abs=1e-6)
    tokens = moods["usage"]["total_tokens"] + vectors["usage"]["total_tokens"]
    assert both["usage"]["total_tokens"] == tokens


def test_analysis_of_a_blank_text_is_refused_as_anywhere(server: LiveServer) -> None:
    response = server.client.post("/v1/analyze", json={"input": ["a", ""]})
    refused(response, 400, "blank_text", "input[1]")


# --- token ids


def test_token_ids_are_taken_when_it_is_said_whose_they_are(server: LiveServer) -> None:
    tokenizer = ModelRepository(server.store).resolve("embedding").file("tokenizer.json")
    ids = tokenizers.Tokenizer.from_file(str(tokenizer)).encode("the food").ids
    text = embed(server, input="the food")
    assert embed(server, input=ids, token_ids_of="embedding") == pytest.approx(text, abs=1e-6)
    assert embed(server, input=[ids, ids], token_ids_of="embedding@1")[1:] == pytest.approx(
        text, abs=1e-6
    )


@pytest.mark.parametrize(
    ("ids", "whose", "param"),
    [
        ([5], None, "input"),
        ([5], "sentiment", "token_ids_of"),
        ([10**6], "embedding", "input[0]"),
        ([[5], [-1]], "embedding", "input[1]"),
    ],
)
def test_foreign_token_ids_are_refused(
    server: LiveServer, ids: object, whose: str | None, param: str
) -> None:
    body = {"input": ids, "token_ids_of": whose}
    response = server.client.post("/v1/embeddings", json=body)
    refused(response, 400, "token_ids_not_accepted", param)
