"""Whether a score changes with the person that a text speaks of, and nothing else."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.offline.predict import Predictor
from service.offline.reading import read_rows
from service.runtime.outputs import compound


@dataclass(frozen=True, slots=True)
class FairnessPair:
    """The same text with another person; a fair classifier scores both alike."""

    first: str
    second: str
    first_group: str = "a"
    second_group: str = "b"


def read_fairness_pairs(source: str | Path) -> list[FairnessPair]:
    """A file with the columns text_a and text_b and, if it has them, group_a and group_b.

    Raises:
        DatasetInvalid: the file cannot be read or lacks a column.
    """
    return [
        FairnessPair(
            str(row["text_a"]),
            str(row["text_b"]),
            str(row.get("group_a") or "a"),
            str(row.get("group_b") or "b"),
        )
        for row in read_rows(source, ("text_a", "text_b"))
    ]


def measure_fairness(predict: Predictor, pairs: Sequence[FairnessPair]) -> dict[str, Any]:
    """Mean and largest change of score over the pairs, and by the groups that they compare.

    The score is positive minus negative probability where the model has both labels, else that of
    each label, of which the one that changes most counts.
    """
    scores = predict.scores([text for pair in pairs for text in (pair.first, pair.second)])
    labels = predict.fields.labels
    is_sentiment = {"negative", "positive"} <= set(labels)
    values = compound(scores, labels)[:, None] if is_sentiment else scores
    change = values[1::2] - values[0::2]  # [pairs, 1 or labels]
    most = np.abs(change).argmax(axis=1)
    signed = np.take_along_axis(change, most[:, None], axis=1)[:, 0]
    groups: dict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        groups[f"{pair.first_group} to {pair.second_group}"].append(index)
    return {
        "score": "positive minus negative" if is_sentiment else "the label that changes most",
        **_changes(signed),
        "groups": {name: _changes(signed[rows]) for name, rows in sorted(groups.items())},
    }


def _changes(signed: npt.NDArray[np.float32]) -> dict[str, float]:
    return {
        "pairs": len(signed),
        "mean_change": float(np.abs(signed).mean()),
        "mean_signed_change": float(signed.mean()),
        "largest_change": float(np.abs(signed).max()),
    }
