"""What is measured of vectors: against scored pairs, and of pairs that belong together."""

import numpy as np
import pytest
from scipy import stats

from service.offline.data import ScoredPair
from service.offline.evaluation.evaluate import Evaluation, evaluate_embedding
from service.offline.evaluation.retrieval import ranks
from tests.offline.scripted import Scripted, fields_of


def test_cosines_are_ranked_at_each_size() -> None:
    """The first two numbers of the vectors know nothing, all four know the order."""
    fields = fields_of((), normalized=True, matryoshka_dimensions=(2,))
    angles, blind = [0.1, 0.4, 0.9, 1.4], [0.9, 0.2, 1.3, 0.5]
    answers: dict[str, list[float]] = {}
    pairs = []
    for place, (angle, other) in enumerate(zip(angles, blind, strict=True)):
        answers[f"a {place}"] = [0.1, 0, 1, 0]
        answers[f"b {place}"] = [
            0.1 * float(np.cos(other)), 0.1 * float(np.sin(other)),
            float(np.cos(angle)), float(np.sin(angle)),
        ]  # fmt: skip
        pairs.append(ScoredPair(f"a {place}", f"b {place}", 5.0 - place))
    found = evaluate_embedding({"fp32": Scripted(fields, answers)}, fields, pairs).measures
    assert found["spearman"] == pytest.approx(1)
    cosines = [np.cos(other) for other in blind]
    scores = [pair.score for pair in pairs]
    assert found["spearman_at_2"] == pytest.approx(stats.spearmanr(cosines, scores).statistic)
    pearson = stats.pearsonr(cosines, scores).statistic
    assert found["pearson_at_2"] == pytest.approx(pearson, abs=1e-6)
    assert {"spearman_interval", "pearson_interval", "spearman_at_2_interval"} <= found.keys()


def evaluated_pairs(answers: dict[str, list[float]], pairs: list[ScoredPair]) -> Evaluation:
    fields = fields_of((), normalized=True, matryoshka_dimensions=(2,))
    return evaluate_embedding({"fp32": Scripted(fields, answers)}, fields, pairs)


def test_pairs_that_belong_together_are_measured_by_who_finds_whom() -> None:
    """q 0 and q 1 find theirs, to q 2 one other answer is nearer; cut to two numbers none does."""
    answers: dict[str, list[float]] = {
        "q 0": [0, 1, 3, 0], "q 1": [0, 1, 0, 3], "q 2": [0, 1, 3, 1],
        "a 0": [0, 1, 3, 0], "a 1": [0, 1, 0, 3], "a 2": [0, 1, 3, 3],
    }  # fmt: skip
    pairs = [ScoredPair(f"q {place}", f"a {place}", 1.0) for place in range(3)]
    evaluation = evaluated_pairs(answers, pairs)
    found = evaluation.measures
    assert found["recall_at_1"] == pytest.approx(2 / 3)
    assert found["mean_reciprocal_rank"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    low, high = found["recall_at_1_interval"]
    assert 0 < low < 2 / 3 < high < 1
    # Vectors that are all one find nothing.
    assert found["recall_at_1_at_2"] == 0
    assert found["mean_reciprocal_rank_at_2"] == pytest.approx(1 / 3)
    assert "spearman" not in found
    assert evaluation.variants["fp32"]["recall_at_1"] == found["recall_at_1"]
    assert evaluation.answers.given == []


def test_answer_of_several_questions_is_right_for_each() -> None:
    same = {"q 0": [1.0, 0, 0, 0], "q 1": [1.0, 0.1, 0, 0], "a": [1.0, 0, 0, 0]}
    answers = same | {"q 2": [0, 0, 1.0, 0], "b": [0, 0, 1.0, 0.1], "c": [0, 0, 1.0, 0.2]}
    names = (("q 0", "a"), ("q 1", "a"), ("q 2", "b"), ("q 2", "c"))
    pairs = [ScoredPair(first, second, 1.0) for first, second in names]
    found = evaluated_pairs(answers, pairs).measures
    assert found["recall_at_1"] == found["mean_reciprocal_rank"] == 1


def test_broken_vectors_find_nothing() -> None:
    nothing = np.full((3, 4), np.nan, np.float32)
    assert ranks(nothing, nothing, [[0], [1], [2]]).tolist() == [3, 3, 3]
