"""Parquet a few rows at a time, whatever its row groups are, and what each row weighs in memory.

The bytes in the file say little of that: a text that stands there once may be that of a million
rows, and one row of a group may weigh more than all the others.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

# Rows that are decoded at a time, at most; fewer where a row group's rows are large by what the
# file says of them.
MOST_BATCH_ROWS = 64
_BATCH_BYTES = 8 * 2**20
_BUFFER_BYTES = 2**20
_OF_BYTES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
)
_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


class ParquetRows:
    """The rows of a file from one of them on; those that follow each other without going back.

    Raises:
        OSError, pa.ArrowException: also every method, if the file cannot be read.
    """

    def __init__(self, path: Path, first_row: int) -> None:
        self._path = path
        self._row = first_row
        self._rest: Any = None
        self._file = _opened(path)
        self._batches = _batches(self._file, first_row)

    def stands_at(self, path: Path, row: int) -> bool:
        return self._path == path and self._row == row

    def take(self, rows: int) -> Any:
        """The next rows as a table, fewer at the end of the file."""
        taken = []
        missing = rows
        while missing:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                break
            taken.append(_without_ballast(batch.slice(0, missing)))
            self._rest = batch.slice(missing) if len(batch) > missing else None
            missing -= len(taken[-1])
        self._row += rows - missing
        # In one piece, the bytes that are written do not depend on where reading began.
        return pa.Table.from_batches(taken, _schema(self._file.schema_arrow)).combine_chunks()


def row_ends(path: Path) -> Iterator[int]:
    """For each row, how many bytes it and those before it take in memory.

    Of lists and objects it is the mean of rows beside each other.

    Raises:
        OSError, pa.ArrowException: the file cannot be read.
    """
    file = _opened(path)
    fixed = [field for field in file.schema_arrow if _width(field.type)]
    varying = [field.name for field in file.schema_arrow if not _width(field.type)]
    width = sum(_width(field.type) for field in fixed)
    end = 0.0
    for batch in _batches(file, 0, columns=varying):
        sizes = sum(
            (_bytes_of_rows(column) for column in batch.columns), np.full(len(batch), width)
        )
        ends = end + np.cumsum(sizes)
        end = float(ends[-1]) if len(ends) else end
        yield from (int(one) for one in ends)


def _opened(path: Path) -> Any:
    # Without a buffer a whole row group is read, which may be all of a large file.
    return parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)


def _batches(file: Any, row: int, columns: list[str] | None = None) -> Iterator[Any]:
    """From `row` on; a batch never holds rows of two groups."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if row >= group.num_rows:
            row -= group.num_rows
            continue
        row_bytes = max(1, group.total_byte_size // group.num_rows)
        most = max(1, min(MOST_BATCH_ROWS, _BATCH_BYTES // row_bytes))
        for batch in file.iter_batches(most, row_groups=[number], columns=columns):
            if row < len(batch):
                yield batch.slice(row)
            row = max(0, row - len(batch))


def _without_ballast(batch: Any) -> Any:
    """Dictionaries with what the rows name: each batch has all those of its row group.

    Those whose order means something stay as they are. Views become what they are views of: Arrow
    cannot choose rows of views.
    """
    columns = [_plain(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=_schema(batch.schema))


def _schema(schema: Any) -> Any:
    for number, field in enumerate(schema):
        schema = schema.set(number, field.with_type(_VIEWS.get(field.type, field.type)))
    return schema


def _plain(column: Any) -> Any:
    if pa.types.is_dictionary(column.type) and not column.type.ordered:
        return _compact(column)
    # Unsafe: safely, a text that is not UTF-8 would be an error of all.
    kind = _VIEWS.get(column.type)
    return column if kind is None else column.cast(kind, safe=False)


def _compact(column: Any) -> Any:
    kind = column.type
    dense = column.dictionary_decode().dictionary_encode()
    return pa.DictionaryArray.from_arrays(dense.indices.cast(kind.index_type), dense.dictionary)


def _width(kind: Any) -> float:
    """Bytes of a value, 0 where they vary."""
    try:
        return 0.0 if pa.types.is_dictionary(kind) else float(kind.bit_width) / 8
    except ValueError:
        return 0.0


def _bytes_of_rows(column: Any) -> NDArray[np.float64]:
    """[rows], of each value."""
    if pa.types.is_dictionary(column.type):
        return _bytes_of_rows(column.dictionary_decode())
    if column.type in _VIEWS:
        return _bytes_of_rows(_plain(column))
    if any(is_of_bytes(column.type) for is_of_bytes in _OF_BYTES):
        lengths = pc.fill_null(pc.binary_length(column), 0)
        return np.asarray(lengths.to_numpy(zero_copy_only=False), np.float64)
    return np.full(len(column), column.nbytes / max(1, len(column)))
