"""From rows of numbers to what callers ask for, in plain numpy: softmax, dimensions, compound."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Int8Array = npt.NDArray[np.int8]
UInt8Array = npt.NDArray[np.uint8]
ProblemType = Literal["single_label", "multi_label", "regression"]
Pooling = Literal["mean", "max"]

# What sentence-transformers multiplies cosines by when it trains encoders to tell texts apart.
ZERO_SHOT_SCALE = 20.0


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


def pool_spans(
    rows: FloatArray, owners: Sequence[int], tokens: Sequence[int], texts: int, pooling: Pooling
) -> FloatArray:
    """Rows of spans to rows of texts, [spans, width] -> [texts, width]; zeros for a text without.

    Args:
        owners: [spans], the text that each span is of.
        tokens: [spans], how much each counts in a mean.
    """
    index = np.asarray(owners, dtype=np.intp)
    if pooling == "max":
        highest = np.full((texts, rows.shape[1]), -np.inf, np.float32)
        np.maximum.at(highest, index, rows)
        found: FloatArray = np.where(np.isneginf(highest), np.float32(0), highest)
        return found
    weights = np.asarray(tokens, dtype=np.float32)
    total = np.bincount(index, weights, texts).astype(np.float32)
    summed = np.zeros((texts, rows.shape[1]), np.float32)
    np.add.at(summed, index, rows * weights[:, None])
    result: FloatArray = (summed / np.maximum(total, 1)[:, None]).astype(np.float32)
    return result


def truncate_dimensions(embeddings: FloatArray, dimensions: int) -> FloatArray:
    """The first `dimensions` of each vector, scaled back to unit length, [n, d] -> [n, dimensions].

    Matryoshka truncation (Kusupati et al., 2022, arXiv:2205.13147); a vector whose kept part is
    zero stays zero.
    """
    return unit_length(embeddings[:, :dimensions])


def unit_length(vectors: FloatArray) -> FloatArray:
    """Each vector divided by its length, [n, d] -> [n, d]; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: FloatArray = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return result


def zero_shot_scores(
    texts: FloatArray, labels: FloatArray, neither: FloatArray | None
) -> FloatArray:
    """How well each label fits each text, from unit vectors, [n, d] and [labels, d] -> [n, labels].

    Cosines times `ZERO_SHOT_SCALE`, then softmax over the labels.

    Args:
        neither: [d], what says that no label fits: each label is then judged against it alone, and
            the scores of a text need not sum to 1.
    """
    cosines = texts @ labels.T * ZERO_SHOT_SCALE
    if neither is None:
        return softmax(cosines)
    baseline = texts @ neither * ZERO_SHOT_SCALE
    return sigmoid(cosines - baseline[:, None])


# The row of a text that failed is all zeros; what divides by less overflows.
SMALLEST_LARGEST = np.float32(1e-30)


def quantize_int8(vectors: FloatArray) -> Int8Array:
    """Each vector scaled so that its largest number is 127, and rounded, [n, d] -> [n, d].

    A vector's scale is its own, so that it does not depend on its neighbours; the cosine of two
    vectors does not depend on their scales.
    """
    largest = np.abs(vectors).max(axis=-1, keepdims=True)
    scale = np.float32(127) / np.maximum(largest, SMALLEST_LARGEST)
    result: Int8Array = np.rint(vectors * scale).astype(np.int8)
    return result


def quantize_uint8(vectors: FloatArray) -> UInt8Array:
    """As `quantize_int8`, 128 added: zero becomes 128."""
    result: UInt8Array = (quantize_int8(vectors).astype(np.int16) + 128).astype(np.uint8)
    return result


def pack_signs(vectors: FloatArray) -> UInt8Array:
    """A bit a number, 1 where it is positive, 8 to a byte, the first in the highest bit.

    [n, d] -> [n, d / 8 rounded up]; the last byte is filled with zeros.
    """
    result: UInt8Array = np.packbits(vectors > 0, axis=-1)
    return result


def compound(scores: FloatArray, labels: tuple[str, ...]) -> FloatArray:
    """Positive minus negative probability, [n, labels] -> [n], from -1 to 1."""
    result: FloatArray = scores[:, labels.index("positive")] - scores[:, labels.index("negative")]
    return result
