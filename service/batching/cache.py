"""Rows that were computed before, by model and exact token ids, bounded in bytes."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from service.metrics import Metrics

RowT = TypeVar("RowT")
FloatArray = npt.NDArray[np.float32]

# What an entry costs beside its key and its numbers: array object, tuple, links, hash table.
ENTRY_OVERHEAD_BYTES = 500


class Cache(Protocol[RowT]):
    """What a batcher asks of the cache of its model."""

    def get(self, key: bytes) -> RowT | None: ...

    def put(self, key: bytes, row: RowT) -> None: ...


class RowCache:
    """Keeps rows of all models up to `max_bytes`; the least recently used ones go first."""

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self._entries: LRUCache[tuple[str, bytes], _Entry] = LRUCache(max_bytes, _bytes_of)
        self._metrics = metrics

    def of_model(self, model: str, version: str, variant: str) -> "ModelCache":
        """The part of one loaded model; another version or variant never sees its rows."""
        return ModelCache(self, f"{model}/{version}/{variant}")

    def get(self, model: str, key: bytes) -> FloatArray | None:
        entry = self._entries.get((model, key))
        return entry.row if entry else None

    def put(self, model: str, key: bytes, row: FloatArray) -> None:
        # A copy: the row is a view of its whole batch, which would stay in memory with it.
        entry = _Entry(row.copy(), len(key) + row.nbytes + ENTRY_OVERHEAD_BYTES)
        if entry.bytes <= self._entries.maxsize:
            self._entries[model, key] = entry
            self._metrics.cache_bytes.set(self._entries.currsize)


@dataclass(frozen=True, slots=True)
class ModelCache:
    """A model's view of the cache; rows are kept as computed, before dimensions and encodings."""

    cache: RowCache
    model: str

    def get(self, key: bytes) -> FloatArray | None:
        return self.cache.get(self.model, key)

    def put(self, key: bytes, row: FloatArray) -> None:
        self.cache.put(self.model, key, row)


@dataclass(frozen=True, slots=True)
class _Entry:
    row: FloatArray
    bytes: int


def _bytes_of(entry: _Entry) -> int:
    return entry.bytes
