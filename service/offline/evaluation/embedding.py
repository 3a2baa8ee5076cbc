"""How well cosines follow how alike people found pairs of texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.offline.evaluation.correlation import pearson, spearman, with_interval
from service.runtime.outputs import truncate_dimensions

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float32]


def scored_pairs(scores: Array, vectors: FloatArray, sizes: Sequence[int] = ()) -> dict[str, Any]:
    """Spearman and Pearson of cosine and human score, of whole vectors and of cut ones.

    Args:
        scores: [n], on any scale.
        vectors: [2 n, d], of the first and second text of each pair in turn.
        sizes: to which vectors are cut, too (Kusupati et al., 2022, arXiv:2205.13147).
    """
    found: dict[str, Any] = {"texts": len(scores)}
    for size in (None, *sizes):
        cut = vectors if size is None else truncate_dimensions(vectors, size)
        at = "" if size is None else f"_at_{size}"
        for name, measure in (("spearman", spearman), ("pearson", pearson)):
            found |= with_interval(f"{name}{at}", measure, scores, pair_cosines(cut))
    return found


def headline(scores: npt.NDArray[np.float64], vectors: FloatArray) -> dict[str, float]:
    """The one number that a file of the model is known by, [n] and [2 n, d]."""
    return {"spearman": float(spearman(scores, pair_cosines(vectors)))}


def pair_cosines(vectors: FloatArray) -> FloatArray:
    """Of each first text with its second: [2 n, d] -> [n]."""
    return row_cosines(vectors[0::2], vectors[1::2])


def row_cosines(left: FloatArray, right: FloatArray) -> FloatArray:
    """Row by row, [n, d] -> [n]; 0 for a vector of zeros."""
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    result: FloatArray = (left * right).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    return result
