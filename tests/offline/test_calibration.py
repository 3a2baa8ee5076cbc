"""Scores that claim too much are found and mended, and what is said of it is honest."""

import numpy as np
import numpy.typing as npt
import pytest

from service.errors import DatasetInvalid
from service.offline.data import Example
from service.offline.evaluation.calibration import (
    binned_error,
    calibrate,
    calibration_error,
    error_by_chance,
    fit_temperature,
    thresholds,
)
from service.offline.evaluation.targets import targets_of
from service.runtime.outputs import ProblemType, label_scores, sigmoid, softmax

FloatArray = npt.NDArray[np.float32]


def honest(texts: int, labels: int, problem_type: ProblemType) -> tuple[FloatArray, FloatArray]:
    """Logits whose scores are true: targets are drawn by them."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1.5, (texts, labels)).astype(np.float32)
    if problem_type == "multi_label":
        return logits, (rng.random(logits.shape) < sigmoid(logits)).astype(np.float32)
    edges = softmax(logits).cumsum(axis=1)
    drawn = (rng.random((texts, 1)) > edges).sum(axis=1)
    return logits, np.minimum(drawn, labels - 1)


@pytest.mark.parametrize("problem_type", ["single_label", "multi_label"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_planted_temperature_is_found_and_mended(
    problem_type: ProblemType, temperature: float
) -> None:
    logits, targets = honest(6000, 3, problem_type)
    scaled = logits * np.float32(temperature)
    assert fit_temperature(scaled, targets, problem_type) == pytest.approx(temperature, rel=0.06)
    found = calibrate(scaled, targets, ("a", "b", "c"), problem_type)
    assert found.ece_after < 0.02
    if temperature != 1:
        assert found.ece_before > 0.05


def all_right(
    texts: int, labels: int, problem_type: ProblemType
) -> tuple[FloatArray, npt.NDArray[np.generic]]:
    """Logits that are right of every text, all by the same margin."""
    truth = np.arange(texts) % labels
    one_hot = np.eye(labels, dtype=np.float32)[truth]
    logits = 4 * one_hot if problem_type == "single_label" else 4 * one_hot - 2
    return logits, truth if problem_type == "single_label" else one_hot


@pytest.mark.parametrize("problem_type", ["single_label", "multi_label"])
@pytest.mark.parametrize(("texts", "labels"), [(2, 2), (6, 2), (6, 3), (24, 5), (60, 2)])
def test_texts_that_are_all_right_prove_no_more_than_their_number(
    problem_type: ProblemType, texts: int, labels: int
) -> None:
    logits, targets = all_right(texts, labels, problem_type)
    temperature = np.float32(fit_temperature(logits, targets, problem_type))
    scores = label_scores(logits / temperature, problem_type)
    assert scores.max() == pytest.approx(1 - 1 / (texts + 2), abs=1e-3)
    found = calibrate(logits, targets, [str(label) for label in range(labels)], problem_type)
    assert found.ece_after > 1 / (texts + 2)


@pytest.mark.parametrize("problem_type", ["single_label", "multi_label"])
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_no_temperature_of_right_answers_runs_to_its_bound(
    problem_type: ProblemType, spread: float
) -> None:
    logits, targets = all_right(6, 3, problem_type)
    uneven = logits * np.random.default_rng(5).uniform(1, 1 + spread, (6, 1)).astype(np.float32)
    assert fit_temperature(uneven, targets, problem_type) > 0.5


@pytest.mark.parametrize("problem_type", ["single_label", "multi_label"])
@pytest.mark.parametrize("labels", [2, 20])
def test_temperature_of_hundreds_of_texts_is_the_likeliest(
    problem_type: ProblemType, labels: int
) -> None:
    """Rows told ten times over are as likely, and smoothed a tenth as much."""
    logits, targets = honest(500, labels, problem_type)
    tenfold = np.tile(logits, (10, 1)), np.concatenate([targets] * 10)
    found = fit_temperature(logits, targets, problem_type)
    assert found == pytest.approx(fit_temperature(*tenfold, problem_type), rel=0.02)


def test_temperature_is_not_judged_by_the_texts_that_it_was_fitted_on() -> None:
    """Of few texts of pure chance, a temperature of their own looks better than it is."""
    honest_errors, flattered_errors = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 2, (16, 2)).astype(np.float32)
        targets = rng.integers(2, size=16)
        own = np.float32(fit_temperature(logits, targets, "single_label"))
        flattered_errors.append(calibration_error(softmax(logits / own), targets, "single_label"))
        honest_errors.append(calibrate(logits, targets, ("a", "b"), "single_label").ece_after)
    assert np.mean(honest_errors) > np.mean(flattered_errors) + 0.02


def test_labels_that_take_turns_calibrate_as_well_as_others() -> None:
    logits, targets = honest(4000, 2, "single_label")
    order = np.empty(len(targets), dtype=int)
    order[0::2], order[1::2] = np.array_split(np.argsort(targets, kind="stable"), 2)
    mixed = calibrate(logits * 3, targets, ("a", "b"), "single_label")
    turns = calibrate(logits[order] * 3, targets[order], ("a", "b"), "single_label")
    assert turns.temperature == pytest.approx(mixed.temperature, rel=1e-3)
    assert turns.ece_after < 0.03


def test_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], dtype=np.float32)
    # Three at 0.9 of which two are right, one at 0.6 that is right.
    gap = 3 / 4 * abs(0.9 - 2 / 3) + 1 / 4 * abs(0.6 - 1)
    found = calibration_error(scores, np.array([0, 0, 1, 1]), "single_label")
    assert found == pytest.approx(gap)
    sure = np.array([[1.0, 0.0]], dtype=np.float32)
    assert calibration_error(sure, np.array([0]), "single_label") == 0
    many = np.array([[0.8, 0.2]], dtype=np.float32)
    assert calibration_error(many, np.array([[1.0, 0.0]]), "multi_label") == pytest.approx(0.2)


SCORES = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], dtype=np.float32)


def two_columns(first: FloatArray) -> FloatArray:
    return np.stack([first, 1 - first], axis=1)


@pytest.mark.parametrize("texts", [100, 400, 10_000])
def test_error_by_chance_is_what_honest_scores_show(texts: int) -> None:
    rng = np.random.default_rng(texts)
    sure = rng.uniform(0.4, 1.0, texts)
    seen = [binned_error(sure, (rng.random(texts) < sure).astype(float)) for _ in range(200)]
    assert error_by_chance(sure) == pytest.approx(np.mean(seen), rel=0.1)


def test_error_by_chance_fades_with_the_number_of_texts_and_for_the_certain() -> None:
    few, many = (np.linspace(0.4, 1.0, texts) for texts in (100, 10_000))
    assert error_by_chance(many) == pytest.approx(error_by_chance(few) / 10, rel=0.3)
    assert error_by_chance(np.ones(100)) == 0


def test_threshold_is_the_lowest_that_reaches_the_precision() -> None:
    #       hits:  1  2  3  4  4  5  6  6  6  6 of 1 2 3 4 5 6 7 8 9 10
    has_not = np.array([0, 0, 0, 0, 1, 0, 0, 1, 1, 1])
    found = thresholds(two_columns(SCORES), has_not, ("yes", "no"), "single_label", 0.8)["yes"]
    assert found.score == pytest.approx(0.5)
    assert found.precision == pytest.approx(6 / 7)
    assert found.recall == 1


def test_label_that_cannot_reach_the_precision_has_no_threshold() -> None:
    # The two surest are right, but two texts prove nothing.
    has_not = np.array([0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    found = thresholds(two_columns(SCORES), has_not, ("yes", "no"), "single_label", 0.9)
    assert "yes" not in found


def test_of_fewer_than_five_texts_all_must_be_accepted() -> None:
    few = two_columns(SCORES[:3])
    found = thresholds(few, np.array([0, 0, 0]), ("yes", "no"), "single_label", 0.9)
    assert found["yes"].score == pytest.approx(0.85)
    assert found.keys() == {"yes"}


def test_threshold_accepts_all_texts_of_its_score() -> None:
    same = np.full((6, 1), 0.7, dtype=np.float32)
    five_of_six = np.array([[1], [1], [1], [1], [1], [0]], dtype=np.float32)
    assert thresholds(same, five_of_six, ("late",), "multi_label", 0.9) == {}
    found = thresholds(same, five_of_six, ("late",), "multi_label", 0.8)["late"]
    assert found.precision == pytest.approx(5 / 6)
    assert found.recall == 1


def test_threshold_of_scores_that_know_nothing_does_not_keep_its_promise_crosswise() -> None:
    """The best of many thresholds looks good on the texts that chose it, and on no others."""
    seen: list[float] = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 1, (60, 2)).astype(np.float32)
        found = calibrate(logits, rng.integers(2, size=60), ("a", "b"), "single_label", 0.7)
        for threshold in found.thresholds.values():
            assert threshold.precision >= 0.7
            if threshold.crosswise_precision is not None:
                seen.append(threshold.crosswise_precision)
    assert len(seen) > 10
    assert np.mean(seen) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("problem_type", ["single_label", "multi_label"])
def test_threshold_of_honest_scores_keeps_its_promise_crosswise(problem_type: ProblemType) -> None:
    logits, targets = honest(6000, 3, problem_type)
    found = calibrate(logits, targets, ("a", "b", "c"), problem_type, 0.8).thresholds
    assert found.keys() == {"a", "b", "c"}
    for threshold in found.values():
        assert threshold.crosswise_precision == pytest.approx(0.8, abs=0.03)


def test_one_text_cannot_calibrate() -> None:
    with pytest.raises(DatasetInvalid, match="at least two"):
        calibrate(np.zeros((1, 2), np.float32), np.array([0]), ("a", "b"), "single_label")


def test_labels_become_numbers_of_the_kind_of_problem() -> None:
    labels = ("bad", "good")
    one = [Example("a", "good"), Example("b", "bad")]
    many = [Example("a", ("bad", "good")), Example("b", ())]
    assert targets_of(one, labels, "single_label").tolist() == [1, 0]
    assert targets_of(many, labels, "multi_label").tolist() == [[1, 1], [0, 0]]
    assert targets_of([Example("a", 2.5)], ("stars",), "regression").tolist() == [[2.5]]
    with pytest.raises(DatasetInvalid, match="bad, good"):
        targets_of([Example("a", "great")], labels, "single_label")
