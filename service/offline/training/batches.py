"""Which texts make which step: random batches of texts of like length, the same for the same seed.

Attention works on a block as wide as the longest text of the batch. Sorting within random windows
keeps the blocks narrow and the order random.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from service.runtime.packing import TokenIds, pack

BATCHES_PER_WINDOW = 16


def packed_tensors(
    texts: Sequence[TokenIds],
    separator_id: int | None = None,
    device: torch.device | None = None,
) -> tuple[Tensor, ...]:
    """The arguments of a model's `forward` for these token ids; `separator_id` as in `pack`."""
    arrays = pack(texts, separator_id).feeds().values()
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


def plan_epoch(
    lengths: Sequence[int],
    *,
    seed: int,
    epoch: int,
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    mixed: bool = False,
) -> list[list[int]]:
    """The steps of one epoch, each the rows it takes; every row once.

    Args:
        lengths: tokens of each row.
        batch_size: rows a step, the last of a window's perhaps fewer.
        batch_tokens: or tokens a step at most, for texts of very different length.
        mixed: each step has texts of all lengths, for losses that compare the texts of a step.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    sizes = np.asarray(lengths)
    if batch_size is None:
        assert batch_tokens is not None
        window = max(1, round(BATCHES_PER_WINDOW * batch_tokens / max(1.0, float(sizes.mean()))))
    else:
        window = batch_size * (1 if mixed else BATCHES_PER_WINDOW)
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        batches += (
            _by_tokens(rows.tolist(), lengths, batch_tokens or 0)
            if batch_size is None
            else [rows[at : at + batch_size].tolist() for at in range(0, len(rows), batch_size)]
        )
    return [batches[index] for index in rng.permutation(len(batches))]


def share_of(rows: Sequence[int], rank: int, processes: int) -> list[int]:
    """The rows of a step that one of several processes takes; at least one, if need be again."""
    return list(rows[rank::processes] or rows[:1])


def _by_tokens(rows: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    batch: list[int] = []
    tokens = 0
    for row in rows:
        if batch and tokens + lengths[row] > budget:
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += lengths[row]
    if batch:
        yield batch
