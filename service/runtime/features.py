"""What can be said of texts without keeping them: how long, how strange, how sure the model is."""

from collections.abc import Sequence

import numpy as np

from service.runtime.outputs import FloatArray


def features_of(
    texts: Sequence[Sequence[int]],
    rows: FloatArray,
    unknown_id: int | None,
    centroid: FloatArray,
) -> dict[str, list[float]]:
    """Each feature of each text, see `store/reference.py`; without those that the rows lack.

    Args:
        centroid: [width] of an embedding model; empty of a classifier.
    """
    found = {"tokens": [float(len(text)) for text in texts]}
    if unknown_id is not None:
        found["unknown"] = [
            sum(token == unknown_id for token in text) / max(1, len(text)) for text in texts
        ]
    if len(centroid):
        lengths = np.maximum(np.linalg.norm(rows, axis=1), np.finfo(np.float32).tiny)
        found["distance"] = (1 - rows @ centroid / lengths).tolist()
    elif rows.shape[1] > 1:
        winners = rows.argmax(axis=1)
        found["label"] = winners.astype(float).tolist()
        found["confidence"] = rows[np.arange(len(rows)), winners].tolist()
    return found
