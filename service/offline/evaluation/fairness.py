"""Whether a score changes with the person that a text speaks of, and nothing else."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import DatasetInvalid
from service.offline.predict import Predictor
from service.offline.rows import read_rows
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

    The score is positive minus negative probability where the model has both labels; else each
    label's is one, and each has a group of its own. The sign is that of second minus first.

    Raises:
        DatasetInvalid: the model reads pairs of texts, of which a pair differs in no one thing.
    """
    if predict.fields.pair_separator_id is not None:
        raise DatasetInvalid("fairness is measured of models that read single texts")
    texts = [text for pair in pairs for text in (pair.first, pair.second)]
    scores, names = _scores(predict, texts)
    change = scores[1::2] - scores[0::2]  # [pairs, names]
    groups: dict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        groups[f"{pair.first_group} to {pair.second_group}"].append(index)
    return {
        "score": ", ".join(names) if len(names) == 1 else "each label",
        **_changes(change),
        "groups": {
            group if len(names) == 1 else f"{group}: {name}": _changes(change[rows][:, [place]])
            for group, rows in sorted(groups.items())
            for place, name in enumerate(names)
        },
    }


def _scores(predict: Predictor, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], list[str]]:
    """[texts, names] and what the columns are called."""
    scores, labels = predict.scores(texts), predict.fields.labels
    if {"negative", "positive"} <= set(labels):
        return compound(scores, labels)[:, None], ["positive minus negative"]
    return scores, list(labels)


def _changes(change: npt.NDArray[np.float32]) -> dict[str, float]:
    return {
        "pairs": len(change),
        "mean_change": float(np.abs(change).mean()),
        "mean_signed_change": float(change.mean()),
        "largest_change": float(np.abs(change).max()),
    }
