"""The worst mistakes of an evaluation: what the model was surest of and wrong, or farthest off."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.offline.data import Example
from service.runtime.outputs import ProblemType

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.generic]

WORST = 20
# What stands over a mistake's size.
SIZES: dict[ProblemType, str] = {
    "single_label": "score",
    "multi_label": "score of its worst label",
    "regression": "off by",
}
NO_LABEL = "none"


@dataclass(frozen=True)
class Mistake:
    """A text, or a pair, and what it was given instead of the truth.

    size: what mistakes are sorted by, see `SIZES`.
    """

    text: str
    truth: str
    given: str
    size: float


def of_one_label(
    scores: FloatArray, truth: Array, labels: Sequence[str], examples: Sequence[Example]
) -> list[Mistake]:
    """The wrong answers with the highest scores, [n, labels] and [n]."""
    given = scores.argmax(axis=1)
    wrong = np.flatnonzero(given != truth)
    return [
        Mistake(
            text=_shown(examples[row]),
            truth=labels[int(truth[row])],
            given=labels[int(given[row])],
            size=float(scores[row, given[row]]),
        )
        for row in _worst(wrong, scores[wrong, given[wrong]])
    ]


def of_many_labels(
    scores: FloatArray,
    truth: Array,
    given: FloatArray,
    labels: Sequence[str],
    examples: Sequence[Example],
) -> list[Mistake]:
    """Texts with a wrong label, those first that one was surest of, [n, labels] each.

    Of a label that is missing, how sure it was is what its score lacks to 1.
    """
    sure = np.where(given != truth, np.maximum(scores, 1 - scores), 0.0).max(axis=1)
    wrong = np.flatnonzero(sure)
    return [
        Mistake(
            text=_shown(examples[row]),
            truth=_names(np.asarray(truth)[row], labels),
            given=_names(given[row], labels),
            size=float(sure[row]),
        )
        for row in _worst(wrong, sure[wrong])
    ]


def of_numbers(truth: Array, given: FloatArray, examples: Sequence[Example]) -> list[Mistake]:
    """The texts whose number is farthest from the truth, [n] each."""
    off = np.abs(given - np.asarray(truth, dtype=np.float64))
    wrong = np.flatnonzero(off)
    return [
        Mistake(
            text=_shown(examples[row]),
            truth=f"{truth[row]:.4g}",
            given=f"{given[row]:.4g}",
            size=float(off[row]),
        )
        for row in _worst(wrong, off[wrong])
    ]


def _worst(rows: npt.NDArray[np.intp], sizes: npt.NDArray[np.floating]) -> list[int]:
    worst: list[int] = rows[np.argsort(-sizes, kind="stable")][:WORST].tolist()
    return worst


def _shown(example: Example) -> str:
    return " | ".join(part for part in (example.text, example.pair) if part)


def _names(marks: npt.NDArray[np.generic], labels: Sequence[str]) -> str:
    return ", ".join(labels[place] for place in np.flatnonzero(marks).tolist()) or NO_LABEL
