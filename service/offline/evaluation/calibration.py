"""Making scores honest: of the texts scored 0.8, eight of ten should have the label."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from service.errors import DatasetInvalid
from service.runtime.outputs import ProblemType, label_scores
from service.store.manifest import Calibration, Threshold

FloatArray = npt.NDArray[np.float32]
Targets = npt.NDArray[np.generic]

BINS = 15
CHANCE_DRAWS = 200
# Colder than a twentieth or hotter than twenty is no calibration but a broken model.
LOG_TEMPERATURES = (np.log(0.05), np.log(20.0))
MIN_ACCEPTED = 5


def calibrate(
    logits: FloatArray,
    targets: Targets,
    labels: Sequence[str],
    problem_type: ProblemType,
    wanted_precision: float = 0.9,
) -> Calibration:
    """Temperature and thresholds from held-out logits, [n, labels].

    The error with temperature and the precision of thresholds are measured crosswise, too: each
    half by what was fitted on the other, so that nothing is its own judge; what is kept is fitted
    on all.

    Args:
        targets: as `targets_of`: [n] int64, or [n, labels] of 0 and 1; numbers need none.

    Raises:
        DatasetInvalid: fewer than two texts.
    """
    if len(logits) < 2:
        raise DatasetInvalid("calibration needs at least two held-out texts: hold out more")
    temperature = fit_temperature(logits, targets, problem_type)
    scores = label_scores(logits / np.float32(temperature), problem_type)
    return Calibration(
        temperature=temperature,
        ece_before=calibration_error(label_scores(logits, problem_type), targets, problem_type),
        ece_after=_crosswise_error(logits, targets, problem_type),
        wanted_precision=wanted_precision,
        thresholds=thresholds(scores, targets, labels, problem_type, wanted_precision),
    )


def fit_temperature(logits: FloatArray, targets: Targets, problem_type: ProblemType) -> float:
    """What to divide logits by for the likeliest scores (Guo et al., 2017, arXiv:1706.04599).

    As many rows as there are, and one that contradicts them: of n right answers the likeliest share
    right is not 1 but (n + 1) / (n + 2) (Platt, 1999, "Probabilistic outputs for support vector
    machines"). Without it no temperature is too cold where every answer is right.
    """
    wide = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        return _negative_log_likelihood(wide / np.exp(log_temperature), targets, problem_type)

    found = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))


def calibration_error(scores: FloatArray, targets: Targets, problem_type: ProblemType) -> float:
    """Expected calibration error over 15 bins of equal width.

    The mean distance of confidence and share right, each bin by its texts. Of one label of many,
    the confidence of the label given; of any number of labels, each label's score is one answer.
    """
    return binned_error(*confidences(scores, targets, problem_type))


def binned_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float:
    """The calibration error of answers so sure, of which 1.0 are right and 0.0 wrong."""
    rows = reliability(confidence, right)
    return float(sum(count * abs(mean - share) for count, mean, share in rows) / len(confidence))


def error_by_chance(confidence: npt.NDArray[np.float64]) -> float:
    """The calibration error that answers so sure would show if each were as often right as it says.

    The mean of `CHANCE_DRAWS` draws of which are right: over few texts a bin is never exact. An
    error of about this size is no reason to doubt the scores.
    """
    drawn = np.random.default_rng(0).random((CHANCE_DRAWS, len(confidence))) < confidence
    errors = [binned_error(confidence, right.astype(np.float64)) for right in drawn]
    return float(np.mean(errors))


def confidences(
    scores: FloatArray, targets: Targets, problem_type: ProblemType
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How sure each answer is, and 1.0 where it is right."""
    if problem_type == "single_label":
        winners = scores.argmax(axis=1)
        sure = np.take_along_axis(scores, winners[:, None], axis=1)[:, 0].astype(np.float64)
        return sure, (winners == targets).astype(np.float64)
    return scores.astype(np.float64).ravel(), np.asarray(targets, dtype=np.float64).ravel()


def reliability(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.float64]
) -> list[tuple[int, float, float]]:
    """Of each bin that holds any: texts, mean confidence, share right."""
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    chosen = [places == place for place in range(BINS)]
    return [
        (int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in chosen
        if inside.any()
    ]


def thresholds(
    scores: FloatArray,
    targets: Targets,
    labels: Sequence[str],
    problem_type: ProblemType,
    wanted_precision: float,
) -> dict[str, Threshold]:
    """For each label the lowest score from which on `wanted_precision` is reached.

    A label is absent if no score reaches it on at least five texts, or on all if there are fewer.
    Below all thresholds a caller may abstain.
    """
    found = {}
    for index, label in enumerate(labels):
        column, has = scores[:, index], _having(targets, index, problem_type)
        if threshold := _threshold(column, has, wanted_precision):
            kept = _crosswise_precision(column, has, wanted_precision)
            found[label] = threshold.model_copy(update={"crosswise_precision": kept})
    return found


def _crosswise_precision(
    scores: FloatArray, has: npt.NDArray[np.bool_], wanted_precision: float
) -> float | None:
    """What thresholds chosen on one half have on the other."""
    accepted = np.zeros(len(scores), dtype=bool)
    for mine, other in _halves(len(scores)):
        if chosen := _threshold(scores[other], has[other], wanted_precision):
            accepted[mine] = scores[mine] >= chosen.score
    return float(has[accepted].mean()) if accepted.any() else None


def _having(targets: Targets, label: int, problem_type: ProblemType) -> npt.NDArray[np.bool_]:
    """Which texts have the label."""
    columns = np.asarray(targets)
    has = columns == label if problem_type == "single_label" else columns[:, label]
    return np.asarray(has, dtype=bool)


def _threshold(
    scores: FloatArray, has: npt.NDArray[np.bool_], wanted_precision: float
) -> Threshold | None:
    order = np.argsort(-scores, kind="stable")
    accepted = np.arange(1, len(order) + 1)
    hits = np.cumsum(has[order])
    # A threshold accepts all texts of its score, not the first of them.
    is_last_of_score = np.append(np.diff(scores[order]) != 0, True)
    is_enough = accepted >= min(MIN_ACCEPTED, len(order))
    reached = (hits / accepted >= wanted_precision) & is_last_of_score & is_enough & (hits > 0)
    if not reached.any():
        return None
    last = int(np.flatnonzero(reached)[-1])
    return Threshold(
        score=float(scores[order[last]]),
        precision=float(hits[last] / accepted[last]),
        recall=float(hits[last] / has.sum()),
    )


def _crosswise_error(logits: FloatArray, targets: Targets, problem_type: ProblemType) -> float:
    """Each half scaled by the other's temperature, and all measured as one."""
    scaled = np.empty_like(logits)
    for mine, other in _halves(len(logits)):
        temperature = fit_temperature(logits[other], targets[other], problem_type)
        scaled[mine] = logits[mine] / np.float32(temperature)
    return calibration_error(label_scores(scaled, problem_type), targets, problem_type)


def _halves(rows: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Each half with the other: what is judged, and what it is judged by.

    Halves are drawn: labels that take turns in the data would end up in one half each.
    """
    order = np.random.default_rng(0).permutation(rows)
    first, second = order[0::2], order[1::2]
    return [(first, second), (second, first)]


def _negative_log_likelihood(
    logits: npt.NDArray[np.float64], targets: Targets, problem_type: ProblemType
) -> float:
    """Of smoothed targets; what the true label loses, the other labels share."""
    lost = 1 / (len(logits) + 2)
    if problem_type == "single_label":
        rows = log_softmax(logits, axis=1)
        chosen = np.take_along_axis(rows, np.asarray(targets)[:, None].astype(int), axis=1)[:, 0]
        others = (rows.sum(axis=1) - chosen) / max(rows.shape[1] - 1, 1)
        return float(-((1 - lost) * chosen + lost * others).mean())
    smooth = lost + (1 - 2 * lost) * np.asarray(targets, dtype=float)
    # log(1 + exp(x)) - x * target
    return float((np.logaddexp(0, logits) - logits * smooth).mean())
