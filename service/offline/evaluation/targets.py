"""Labels as the numbers that losses and measures are computed from."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.errors import DatasetInvalid
from service.offline.data import Example
from service.runtime.outputs import ProblemType


def targets_of(
    examples: Sequence[Example], labels: Sequence[str], problem_type: ProblemType
) -> npt.NDArray[np.generic]:
    """The targets of a loss, in the order of the examples.

    One label: [n] int64; any number of labels: [n, labels] float32 of 0 and 1; regression: [n, 1]
    float32.

    Raises:
        DatasetInvalid: an example has a label that is not among `labels`.
    """
    if problem_type == "regression":
        return np.array([[example.label] for example in examples], dtype=np.float32)
    place = {label: index for index, label in enumerate(labels)}
    if problem_type == "single_label":
        return np.array([_place(place, example.label) for example in examples], dtype=np.int64)
    targets = np.zeros((len(examples), len(labels)), dtype=np.float32)
    for row, example in enumerate(examples):
        assert isinstance(example.label, tuple)
        targets[row, [_place(place, label) for label in example.label]] = 1
    return targets


def _place(place: dict[str, int], label: object) -> int:
    if label not in place:
        raise DatasetInvalid(f"label {label!r} is not one of the model's: {', '.join(place)}")
    return place[str(label)]
