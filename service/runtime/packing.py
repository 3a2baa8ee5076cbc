"""Token ids of many texts, laid end to end: no row of a linear layer is ever padding.

Only attention needs the texts side by side; `pad_index` gathers them into a block and
`unpad_index` scatters them back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

PACKED_INPUTS = ("input_ids", "position_ids", "pad_index", "unpad_index")


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """The packed layout of n texts with t tokens in all, the longest of them l tokens.

    input_ids: [t] int64, all texts concatenated.
    position_ids: [t] int64, each token's place in its own text, from 0.
    pad_index: [n, l] int64, the row of each token of each text; t marks padding.
    unpad_index: [t] int64, where each token stands in the flattened padded block.
    """

    input_ids: Int64Array
    position_ids: Int64Array
    pad_index: Int64Array
    unpad_index: Int64Array

    def feeds(self) -> dict[str, Int64Array]:
        """The arrays under the names of the graph's inputs."""
        return {name: getattr(self, name) for name in PACKED_INPUTS}


def pack(texts: Sequence[Sequence[int]]) -> PackedBatch:
    """Pack the token ids of at least one text; no text may be empty."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    if not len(texts) or not lengths.all():
        raise ValueError("pack needs at least one text, and a token in each")
    tokens = int(lengths.sum())
    longest = int(lengths.max())
    first_rows = np.cumsum(lengths) - lengths
    position_ids = np.arange(tokens) - np.repeat(first_rows, lengths)
    unpad_index = np.repeat(np.arange(len(texts)) * longest, lengths) + position_ids
    pad_index = np.full(len(texts) * longest, tokens, dtype=np.int64)
    pad_index[unpad_index] = np.arange(tokens)
    return PackedBatch(
        input_ids=np.concatenate([np.asarray(text, dtype=np.int64) for text in texts]),
        position_ids=position_ids,
        pad_index=pad_index.reshape(len(texts), longest),
        unpad_index=unpad_index,
    )
