"""What is measured of labels whose truth is known, with 95 % intervals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from service.offline.evaluation.intervals import (
    Draws,
    Values,
    divided,
    interval_of,
    resample,
    share_interval,
    times_drawn,
)

Array = npt.NDArray[np.generic]
# [texts, labels] of 0 and 1: which labels a text has, or was given.
Marks = npt.NDArray[np.float32]


def one_label(truth: Array, given: Array, labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro F1, a row a label and the confusion matrix, [truth, given].

    Intervals of shares are Wilson's, those of F1 come from the bootstrap.

    Args:
        truth, given: [n] int64, places in `labels`.
    """
    counts = confusion_matrix(truth, given, labels=range(len(labels)))
    wanted, answered = (marks_of(side, len(labels)) for side in (truth, given))
    return {
        "texts": len(truth),
        **_right(truth == given, "accuracy"),
        **_f1_and_rows(wanted, answered, labels),
        "confusion": counts.tolist(),
    }


def many_labels(truth: Array, given: Array, labels: Sequence[str]) -> dict[str, Any]:
    """Micro and macro F1, the share of texts with all labels right, a row a label.

    Args:
        truth, given: [n, labels] of 0 and 1.
    """
    wanted, answered = (side.astype(np.float32) for side in (truth, given))
    micro = resample(_of_draws(micro_f1, wanted, answered), len(truth))
    return {
        "texts": len(truth),
        "micro_f1": micro_f1_of(wanted, answered),
        "micro_f1_interval": interval_of(micro),
        **_right((wanted == answered).all(axis=1), "exact"),
        **_f1_and_rows(wanted, answered, labels),
    }


def marks_of(places: Array, labels: int) -> Marks:
    """Places of labels, [n] -> [n, labels]."""
    marks: Marks = np.eye(labels, dtype=np.float32)[np.asarray(places).astype(int)]
    return marks


def f1(hits: Values, given: Values, has: Values) -> Values:
    """2 hits / (given + has); NaN for a label that occurs in neither truth nor answers."""
    total = given + has
    return divided(2 * hits, total)


def mean_known(scores: Values) -> Values:
    """The mean over labels, [..., labels] -> [...], of those that occur; NaN where none does."""
    known = np.isfinite(scores)
    return divided(np.where(known, scores, 0).sum(axis=-1), known.sum(axis=-1))


def macro_f1(hits: Values, given: Values, has: Values) -> Values:
    """The mean F1 of the labels that occur, [..., labels] -> [...]."""
    return mean_known(f1(hits, given, has))


def micro_f1(hits: Values, given: Values, has: Values) -> Values:
    """The F1 of all labels as one, [..., labels] -> [...]."""
    return f1(*(side.sum(axis=-1) for side in (hits, given, has)))


def micro_f1_of(truth: Marks, given: Marks) -> float:
    return float(micro_f1(*_sums(truth, given)))


def macro_f1_of(truth: Marks, given: Marks) -> float:
    return float(macro_f1(*_sums(truth, given)))


def macro_f1_of_draws(truth: Marks, given: Marks) -> Callable[[Draws], Values]:
    """What `resample` takes to draw texts and measure macro F1."""
    return _of_draws(macro_f1, truth, given)


def _sums(truth: Marks, given: Marks) -> tuple[Values, Values, Values]:
    """Of each label: texts right, texts given, texts that have it."""
    hits, answers, has = (
        side.sum(axis=0, dtype=np.float64) for side in (truth * given, given, truth)
    )
    return hits, answers, has


def _of_draws(
    measure: Callable[[Values, Values, Values], Values], truth: Marks, given: Marks
) -> Callable[[Draws], Values]:
    sides = (truth * given, given, truth)

    def measured(draws: Draws) -> Values:
        times = times_drawn(draws)
        hits, answers, has = ((times @ side).astype(np.float64) for side in sides)
        return measure(hits, answers, has)

    return measured


def _right(right: npt.NDArray[np.bool_], name: str) -> dict[str, Any]:
    hits = int(right.sum())
    return {name: hits / len(right), f"{name}_interval": share_interval(hits, len(right))}


def _f1_and_rows(truth: Marks, given: Marks, labels: Sequence[str]) -> dict[str, Any]:
    """Each label's F1 and their mean, from the same draws."""
    draws = resample(_of_draws(f1, truth, given), len(truth))
    columns = zip(labels, *_sums(truth, given), draws.T, strict=True)
    return {
        "macro_f1": macro_f1_of(truth, given),
        "macro_f1_interval": interval_of(mean_known(draws)),
        "labels": {
            label: _label_row(int(hits), int(answers), int(has), values)
            for label, hits, answers, has, values in columns
        },
    }


def _label_row(hits: int, given: int, has: int, f1_draws: Values) -> dict[str, Any]:
    return {
        "texts": has,
        "precision": hits / given if given else 0.0,
        "precision_interval": share_interval(hits, given),
        "recall": hits / has if has else 0.0,
        "recall_interval": share_interval(hits, has),
        "f1": 2 * hits / (given + has) if given + has else 0.0,
        "f1_interval": interval_of(f1_draws) if given + has else share_interval(0, 0),
    }
