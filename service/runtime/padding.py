"""Token ids of many texts side by side, the shorter filled up: the layout of ready-made models."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

# Single texts are all segment 0: some exports ask for it all the same.
PADDED_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def pad(texts: Sequence[Sequence[int]], separator_id: int | None = None) -> dict[str, Int64Array]:
    """The arrays of `PADDED_INPUTS`, each [texts, longest] int64; the mask is 1 at real tokens.

    Needs at least one text; no text may be empty.

    Args:
        separator_id: the texts are pairs, and this token ends the first of each.
    """
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    if not len(texts) or not lengths.all():
        raise ValueError("pad needs at least one text, and a token in each")
    mask = np.arange(lengths.max()) < lengths[:, None]
    input_ids = np.zeros(mask.shape, dtype=np.int64)
    input_ids[mask] = np.concatenate([np.asarray(text, dtype=np.int64) for text in texts])
    segments = np.zeros_like(input_ids)
    if separator_id is not None:
        separators = mask & (input_ids == separator_id)
        segments[(np.cumsum(separators, axis=1) > separators) & mask] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": segments,
    }
