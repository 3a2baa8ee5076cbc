"""What is measured of answers whose truth is known, with 95 % intervals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, pearsonr, spearmanr
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

Array = npt.NDArray[np.generic]
Interval = tuple[float, float]

RESAMPLES = 1000
LENGTH_BINS = 6
_Z = float(norm.ppf(0.975))


def share_interval(hits: int, of: int) -> Interval:
    """Wilson's interval of a share (Wilson, 1927)."""
    if not of:
        return (0.0, 1.0)
    share = hits / of
    middle = (share + _Z**2 / (2 * of)) / (1 + _Z**2 / of)
    spread = _Z / (1 + _Z**2 / of) * np.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    return (max(0.0, float(middle - spread)), min(1.0, float(middle + spread)))


def resampled_interval(
    measure: Callable[[npt.NDArray[np.int64]], float], rows: int, *, seed: int = 0
) -> Interval:
    """Percentile bootstrap (Efron, 1979) of a measure of drawn rows."""
    rng = np.random.default_rng(seed)
    values = [measure(rng.integers(rows, size=rows)) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return (float(low), float(high))


def one_label(truth: Array, given: Array, labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro F1, a row a label and the confusion matrix, [truth, given].

    Args:
        truth, given: [n] int64, places in `labels`.
    """
    counts = confusion_matrix(truth, given, labels=range(len(labels)))
    hits = int(np.trace(counts))
    return {
        "texts": len(truth),
        "accuracy": hits / len(truth),
        "accuracy_interval": share_interval(hits, len(truth)),
        "macro_f1": macro_f1_of(counts),
        "macro_f1_interval": _macro_f1_interval(counts),
        "labels": {label: _label_row(counts, place) for place, label in enumerate(labels)},
        "confusion": counts.tolist(),
    }


def many_labels(truth: Array, given: Array, labels: Sequence[str]) -> dict[str, Any]:
    """Micro and macro F1, the share of texts with all labels right, a row a label.

    Args:
        truth, given: [n, labels] of 0 and 1.
    """
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, given, average=None, zero_division=0
    )
    exact = int((truth == given).all(axis=1).sum())

    def micro(rows: npt.NDArray[np.int64]) -> float:
        hits = (truth[rows].astype(bool) & given[rows].astype(bool)).sum()
        total = truth[rows].sum() + given[rows].sum()
        return float(2 * hits / total) if total else float("nan")

    return {
        "texts": len(truth),
        "micro_f1": micro(np.arange(len(truth))),
        "micro_f1_interval": resampled_interval(micro, len(truth)),
        "macro_f1": float(f1_score(truth, given, average="macro", zero_division=0)),
        "exact": exact / len(truth),
        "exact_interval": share_interval(exact, len(truth)),
        "labels": {
            label: {
                "texts": int(support[place]),
                "precision": float(precision[place]),
                "recall": float(recall[place]),
                "f1": float(f1[place]),
            }
            for place, label in enumerate(labels)
        },
    }


def numbers(truth: Array, given: Array) -> dict[str, Any]:
    """How well numbers, [n], follow the true ones; NaN where one side is constant."""
    return {
        "texts": len(truth),
        "spearman": spearman(truth, given),
        "spearman_interval": resampled_interval(
            lambda rows: spearman(truth[rows], given[rows]), len(truth)
        ),
        "pearson": _pearson(truth, given),
        "mean_absolute_error": float(np.abs(given - truth).mean()),  # type: ignore[operator]
        "root_mean_squared_error": float(np.sqrt(((given - truth) ** 2).mean())),  # type: ignore[operator]
    }


def spearman(left: Array, right: Array) -> float:
    """NaN where one side is constant and so has no ranks."""
    if len(np.unique(left)) < 2 or len(np.unique(right)) < 2:
        return float("nan")
    return float(spearmanr(left, right).statistic)


def by_length(tokens: Sequence[int], right: Array) -> list[dict[str, float]]:
    """The share right among texts of like length, in bins of as many texts each."""
    lengths = np.asarray(tokens)
    parts = np.array_split(np.argsort(lengths, kind="stable"), min(LENGTH_BINS, len(lengths)))
    return [
        {
            "texts": len(rows),
            "least_tokens": int(lengths[rows].min()),
            "most_tokens": int(lengths[rows].max()),
            "right": float(np.asarray(right)[rows].mean()),
        }
        for rows in parts
        if len(rows)
    ]


def _label_row(counts: npt.NDArray[np.int64], place: int) -> dict[str, Any]:
    hits, given, has = (int(n) for n in (counts[place, place], *_sums(counts, place)))
    precision = hits / given if given else 0.0
    recall = hits / has if has else 0.0
    return {
        "texts": has,
        "precision": precision,
        "precision_interval": share_interval(hits, given),
        "recall": recall,
        "recall_interval": share_interval(hits, has),
        "f1": 2 * hits / (given + has) if given + has else 0.0,
    }


def _sums(counts: npt.NDArray[np.int64], place: int) -> tuple[int, int]:
    return counts[:, place].sum(), counts[place].sum()


def macro_f1_of(counts: npt.NDArray[np.int64]) -> float:
    """The mean F1 of the labels that occur in truth or answers; [..., truth, given]."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    total = counts.sum(axis=-1) + counts.sum(axis=-2)
    return float(np.mean(2 * hits[total > 0] / total[total > 0]))


def _macro_f1_interval(counts: npt.NDArray[np.int64]) -> Interval:
    """Drawing texts anew is drawing the cells of the confusion matrix anew."""
    rng = np.random.default_rng(0)
    total = int(counts.sum())
    draws = rng.multinomial(total, counts.ravel() / total, size=RESAMPLES)
    values = [macro_f1_of(draw.reshape(counts.shape)) for draw in draws]
    low, high = np.percentile(values, [2.5, 97.5])
    return (float(low), float(high))


def _pearson(left: Array, right: Array) -> float:
    if len(np.unique(left)) < 2 or len(np.unique(right)) < 2:
        return float("nan")
    return float(pearsonr(left, right).statistic)
