"""Token ids of many texts, laid end to end: no row of a linear layer is ever padding.

Only attention needs the texts side by side; `pad_index` gathers them into a block and
`unpad_index` scatters them back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
# Of one text.
TokenIds = Sequence[int] | npt.NDArray[np.int32]

PACKED_INPUTS = ("input_ids", "position_ids", "pad_index", "unpad_index")
# Models that read pairs also ask which of the two texts a token is of.
PACKED_PAIR_INPUTS = (*PACKED_INPUTS, "token_type_ids")

# Some graphs compute the vectors of each text's first tokens only, and have this further input for
# how many, int64 without dimensions. It has a default of 1, which is all that pooling needs.
LEADING_INPUT = "leading_tokens"


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """The packed layout of n texts with t tokens in all, the longest of them l tokens.

    input_ids: [t] int64, all texts concatenated.
    position_ids: [t] int64, each token's place in its own text, from 0.
    pad_index: [n, l] int64, the row of each token of each text; t marks padding.
    unpad_index: [t] int64, where each token stands in the flattened padded block.
    token_type_ids: [t] int64, 1 for the tokens of a pair's second text; only of pairs.
    """

    input_ids: Int64Array
    position_ids: Int64Array
    pad_index: Int64Array
    unpad_index: Int64Array
    token_type_ids: Int64Array | None = None

    def feeds(self, *, leading: bool = False) -> dict[str, Int64Array]:
        """The arrays under the names of the graph's inputs.

        Args:
            leading: ask a graph with `LEADING_INPUT` for all tokens.
        """
        names = PACKED_INPUTS if self.token_type_ids is None else PACKED_PAIR_INPUTS
        feeds: dict[str, Int64Array] = {name: getattr(self, name) for name in names}
        if leading:
            feeds[LEADING_INPUT] = np.array(self.pad_index.shape[1])
        return feeds


def pack(texts: Sequence[TokenIds], separator_id: int | None = None) -> PackedBatch:
    """Pack the token ids of at least one text; no text may be empty.

    Args:
        separator_id: the texts are pairs, and this token ends the first of each.
    """
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
    input_ids = np.concatenate([np.asarray(text, dtype=np.int64) for text in texts])
    return PackedBatch(
        input_ids=input_ids,
        position_ids=position_ids,
        pad_index=pad_index.reshape(len(texts), longest),
        unpad_index=unpad_index,
        token_type_ids=(
            None if separator_id is None else _segments(input_ids == separator_id, lengths)
        ),
    )


def _segments(separators: npt.NDArray[np.bool_], lengths: Int64Array) -> Int64Array:
    """1 behind the first separator of each text, else 0: [t] bool -> [t] int64."""
    seen: Int64Array = np.cumsum(separators) - separators  # before this token, in the whole batch
    before_text: Int64Array = np.repeat(seen[np.cumsum(lengths) - lengths], lengths)
    segments: Int64Array = (seen > before_text).astype(np.int64)
    return segments
