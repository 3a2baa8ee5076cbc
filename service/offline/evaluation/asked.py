"""What a data set asks of a model, in the model's words."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from service.errors import DatasetInvalid
from service.offline.data import Example, Input, Label
from service.store.manifest import ManifestFields

FloatArray = npt.NDArray[np.float32]

# How data sets of two classes write what a model of sentiment calls by its name.
BINARY = {"0": "negative", "1": "positive", "neg": "negative", "pos": "positive"}


def is_binary(asked: Iterable[Label], labels: Sequence[str]) -> bool:
    """True if the data knows two classes by words of `BINARY` that a model of sentiment lacks."""
    words = set(asked)
    return words <= BINARY.keys() - set(labels) and set(BINARY.values()) <= set(labels)


def as_asked(
    scores: FloatArray, fields: ManifestFields, examples: Sequence[Example]
) -> tuple[FloatArray, tuple[str, ...], list[Example]]:
    """Scores, labels and examples in each other's words.

    Data that knows 0 and 1, or neg and pos, only asks a model of sentiment for the likelier of two
    labels.
    """
    if not is_binary((example.label for example in examples), fields.labels):
        return scores, fields.labels, list(examples)
    names = ("negative", "positive")
    two = scores[:, [fields.labels.index(name) for name in names]]
    # Where a third label is sure, both may be too small for a float.
    two = np.maximum(two, np.finfo(np.float32).tiny)
    renamed = [Example(e.text, BINARY[str(e.label)], e.pair) for e in examples]
    return two / two.sum(axis=1, keepdims=True), names, renamed


def check_inputs(inputs: Sequence[Input], fields: ManifestFields) -> None:
    """
    Raises:
        DatasetInvalid: there are none, or they are texts where the model reads pairs, or the
            other way round.
    """
    wants_pairs = fields.pair_separator_id is not None
    if not inputs:
        raise DatasetInvalid("there is nothing to measure on: the data has no rows")
    if any(isinstance(entry, str) == wants_pairs for entry in inputs):
        wanted = "pairs of texts: name the column of the second with --pair-column"
        raise DatasetInvalid(f"the model reads {wanted if wants_pairs else 'texts, not pairs'}")
