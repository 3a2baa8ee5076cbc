"""Explanations over HTTP: each number is what the model itself says of the text without words."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import LiveServer, live_server

WORDS = ("the", "a", "not", "good", "bad", "train", "leaves", "at", "nine", "food")
PATH = "/v1/explain"


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[LiveServer]:
    with live_server(tiny_store) as running:
        yield running


@pytest.fixture(scope="module")
def judge_server(judges: Path) -> Iterator[LiveServer]:
    with live_server(judges) as running:
        yield running


def ask(server: LiveServer, path: str = PATH, **body: object) -> Any:
    response = server.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()["data"]


def logits(server: LiveServer, text: object, **body: object) -> dict[str, float]:
    (entry,) = ask(server, "/v1/classify", input=[text], raw_scores=True, **body)
    scores: dict[str, float] = entry["scores"]
    return scores


def log_odds(scores: dict[str, float], label: str) -> float:
    others = [score for name, score in scores.items() if name != label]
    return scores[label] - float(np.logaddexp.reduce(others))


def without(text: str, *removed: dict[str, Any]) -> str:
    for word in sorted(removed, key=lambda word: -int(word["start"])):
        text = text[: word["start"]] + text[word["end"] :]
    return text


def some_texts(count: int, *, seed: int, most_words: int) -> list[str]:
    chance = random.Random(seed)
    return [
        " ".join(chance.choice(WORDS) for _ in range(chance.randint(3, most_words)))
        for _ in range(count)
    ]


def test_weights_are_what_the_log_odds_lose_without_the_words(server: LiveServer) -> None:
    for text in some_texts(8, seed=1, most_words=9):
        (found,) = ask(server, input=text)
        label = found["label"]
        whole = log_odds(logits(server, text), label)
        assert [word["text"] for word in found["words"]] == text.split()
        for word in (*found["words"], *found["phrases"]):
            assert text[word["start"] : word["end"]] == word["text"]
            lost = whole - log_odds(logits(server, without(text, word)), label)
            assert word["weight"] == pytest.approx(lost, abs=1e-4)


def test_score_and_label_are_those_of_a_classification(server: LiveServer) -> None:
    (text,) = some_texts(1, seed=2, most_words=12)
    (found,) = ask(server, input=text)
    (plain,) = ask(server, "/v1/classify", input=text)
    assert {name: found[name] for name in ("label", "score", "scores")} == {
        name: plain[name] for name in ("label", "score", "scores")
    }


def test_interaction_and_gap_are_what_the_parts_do_not_add_up_to(server: LiveServer) -> None:
    (text,) = some_texts(1, seed=3, most_words=8)
    (found,) = ask(server, input=text)
    weights = {word["start"]: word["weight"] for word in found["words"]}
    assert len(found["phrases"]) == len(weights) - 1
    for phrase in found["phrases"]:
        own = [w for start, w in weights.items() if phrase["start"] <= start < phrase["end"]]
        assert len(own) == 2
        assert phrase["interaction"] == pytest.approx(phrase["weight"] - sum(own), abs=1e-9)
    completeness = found["completeness"]
    assert completeness["sum_of_weights"] == pytest.approx(sum(weights.values()))
    gap = completeness["sum_of_weights"] - completeness["total"]
    assert completeness["gap"] == pytest.approx(gap)


def test_deletion_changes_the_label_and_none_of_its_words_could_be_spared(
    server: LiveServer,
) -> None:
    seen = 0
    for text in some_texts(30, seed=4, most_words=8):
        (found,) = ask(server, input=text)
        if (deletion := found["deletion"]) is None:
            continue
        removed = deletion["removed"]
        (after,) = ask(server, "/v1/classify", input=without(text, *removed))
        assert after["label"] == deletion["label"] != found["label"]
        assert after["score"] == pytest.approx(deletion["score"], abs=1e-5)
        for word in removed if len(removed) > 1 else ():
            fewer = [other for other in removed if other is not word]
            (spared,) = ask(server, "/v1/classify", input=without(text, *fewer))
            assert spared["label"] == found["label"]
        seen += 1
    assert seen > 5


def test_where_one_word_is_enough_no_more_are_named(server: LiveServer) -> None:
    seen = 0
    for text in some_texts(20, seed=5, most_words=7):
        (found,) = ask(server, input=text)
        shorter = [without(text, word) for word in found["words"]]
        labels = [entry["label"] for entry in ask(server, "/v1/classify", input=shorter)]
        if any(label != found["label"] for label in labels):
            assert len(found["deletion"]["removed"]) == 1
            seen += 1
    assert seen > 3


@pytest.mark.parametrize("max_runs", [4, 12, 40])
def test_explaining_costs_no_more_than_it_may(tiny_store: Path, max_runs: int) -> None:
    with live_server(tiny_store, explain_max_runs=max_runs, cache_bytes=0) as server:
        for text in some_texts(12, seed=6, most_words=60):
            before = tokens_run(server)
            (found,) = ask(server, input=text)
            assert found["runs"] <= max_runs
            # By what the model has run, and not by what the explanation says of itself.
            most = max_runs * min(found["full_tokens"], 32)
            assert 0 < tokens_run(server) - before <= most
            places = [(word["start"], word["end"]) for word in found["words"]]
            covered = "".join(text[start:end] for start, end in places).replace(" ", "")
            assert covered == text[: places[-1][1]].replace(" ", "")
            assert len(places) == 1 or len(places) <= max_runs


def tokens_run(server: LiveServer) -> float:
    return server.count("encserve_tokens_total", model="sentiment", kind="text")


def test_texts_that_were_cut_are_counted_in_the_header(server: LiveServer) -> None:
    texts = ["the train " * 30, "a good train", "not good " * 40, "food"]
    answer = server.client.post(PATH, json={"input": texts})
    assert [entry["truncated"] for entry in answer.json()["data"]] == [True, False, True, False]
    assert answer.headers["x-truncated-texts"] == "2"


def test_long_text_is_halved_where_it_matters(server: LiveServer, tiny_store: Path) -> None:
    text = " ".join(some_texts(1, seed=7, most_words=30)[0].split() * 5)
    with live_server(tiny_store, explain_max_runs=20) as narrow:
        (coarse,) = ask(narrow, input=text)
    (fine,) = ask(server, input=text)
    assert coarse["truncated"]
    assert coarse["full_tokens"] > 32
    sizes = [len(part["text"].split()) for part in coarse["words"]]
    assert len(sizes) < len(fine["words"])
    assert min(sizes) < max(sizes)


def test_each_text_of_several_is_explained_as_alone(server: LiveServer) -> None:
    texts = some_texts(4, seed=8, most_words=8)
    together = ask(server, input=texts)
    for index, text in enumerate(texts):
        (alone,) = ask(server, input=text)
        assert alone | {"index": index} == together[index]


def test_label_of_the_callers_choice_is_explained(server: LiveServer) -> None:
    (text,) = some_texts(1, seed=9, most_words=8)
    (likeliest,) = ask(server, input=text)
    other = next(label for label in likeliest["scores"] if label != likeliest["label"])
    (found,) = ask(server, input=text, label=other)
    assert found["label"] == other
    assert found["score"] == likeliest["scores"][other]
    # What would change the label that the text has is the same, whatever is asked about.
    assert found["deletion"] == likeliest["deletion"]


def test_pairs_are_explained_in_both_texts(judge_server: LiveServer) -> None:
    pair = ["not a good train", "the food at nine"]
    (found,) = ask(judge_server, input=[pair], model="judge")
    parts = [(word["part"], word["text"]) for word in found["words"]]
    assert parts == [(part, word) for part in (0, 1) for word in pair[part].split()]
    whole = logits(judge_server, pair, model="judge")["score"]
    for word in found["words"]:
        shorter = list(pair)
        shorter[word["part"]] = without(pair[word["part"]], word)
        lost = whole - logits(judge_server, shorter, model="judge")["score"]
        assert word["weight"] == pytest.approx(lost, abs=1e-4)
    assert all(phrase["text"] in pair[phrase["part"]] for phrase in found["phrases"])


def test_of_labels_of_which_many_hold_the_deletion_is_of_one(judge_server: LiveServer) -> None:
    seen = 0
    for text in some_texts(8, seed=10, most_words=9):
        for label in ("food", "trains", "leaves"):
            (found,) = ask(judge_server, input=text, model="topics", label=label)
            if (deletion := found["deletion"]) is None:
                continue
            assert deletion["label"] == label
            assert (deletion["score"] > 0.5) is not (found["score"] > 0.5)
            seen += 1
    assert seen > 3


def test_regression_is_explained_in_its_own_unit(judge_server: LiveServer) -> None:
    text = "a bad train leaves"
    response = judge_server.client.post(PATH, json={"input": text, "model": "grade"}).json()
    assert response["unit"] == "value"
    (found,) = response["data"]
    assert found["deletion"] is None
    whole = logits(judge_server, text, model="grade")["stars"]
    for word in found["words"]:
        lost = whole - logits(judge_server, without(text, word), model="grade")["stars"]
        assert word["weight"] == pytest.approx(lost, abs=1e-4)


def test_texts_that_nobody_sent_are_not_counted_as_answers(tiny_store: Path) -> None:
    with live_server(tiny_store) as server:
        (found,) = ask(server, input="not a good train")
        label = found["label"]
        won = server.count("encserve_predictions_total", model="sentiment", label=label)
        assert won == 1


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": ["good", " "]}, "blank_text", "input[1]"),
        ({"input": []}, "empty_input", "input"),
        ({"input": "good", "label": "purple"}, "invalid_field", "label"),
        ({"input": ["good"] * 17}, "too_many_texts", "input"),
        ({"input": [[1, 2]]}, "token_ids_not_accepted", "input"),
        ({"input": "good", "model": "embedding"}, "wrong_task", "model"),
        ({"input": [["good", "bad"]]}, "wrong_task", "model"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_a_sentence(
    server: LiveServer, body: dict[str, object], code: str, param: str
) -> None:
    response = server.client.post(PATH, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, code, param)
