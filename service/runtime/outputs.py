"""From rows of numbers to what callers ask for, in plain numpy: softmax, dimensions, compound."""

from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ProblemType = Literal["single_label", "multi_label", "regression"]


def softmax(logits: FloatArray) -> FloatArray:
    """Row-wise softmax, [n, labels] -> [n, labels]; finite for any finite input."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: FloatArray = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), each number by itself; finite for any finite input."""
    # exp of a negative number never overflows, whichever side the logit is on.
    small = np.exp(-np.abs(logits))
    result: FloatArray = np.where(logits >= 0, 1, small) / (1 + small)
    return result


def label_scores(logits: FloatArray, problem_type: ProblemType) -> FloatArray:
    """What callers are given for logits, [n, labels] -> [n, labels].

    Softmax where one label holds, sigmoid where any number may, and regression's numbers as they
    stand.
    """
    if problem_type == "regression":
        return logits
    return softmax(logits) if problem_type == "single_label" else sigmoid(logits)


def truncate_dimensions(embeddings: FloatArray, dimensions: int) -> FloatArray:
    """The first `dimensions` of each vector, scaled back to unit length, [n, d] -> [n, dimensions].

    Matryoshka truncation (Kusupati et al., 2022, arXiv:2205.13147); a vector whose kept part is
    zero stays zero.
    """
    kept = embeddings[:, :dimensions]
    norms = np.linalg.norm(kept, axis=-1, keepdims=True)
    result: FloatArray = kept / np.maximum(norms, np.finfo(np.float32).tiny)
    return result


def compound(scores: FloatArray, labels: tuple[str, ...]) -> FloatArray:
    """Positive minus negative probability, [n, labels] -> [n], from -1 to 1."""
    result: FloatArray = scores[:, labels.index("positive")] - scores[:, labels.index("negative")]
    return result
