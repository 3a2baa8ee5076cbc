"""The rows of one part: a table of those that can be read, and the faults of the others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from service.bulk.job import Input, Part
from service.bulk.kinds import json_array
from service.bulk.lines import NOT_UTF8, Fault, lines, unreadable
from service.bulk.parquet_file import ParquetRows
from service.errors import DatasetInvalid


@dataclass(frozen=True, slots=True)
class PartRows:
    """numbers: [rows of the table], of each in its input, from 0. texts: of each, whatever it is.

    faults: by number, of the rows that are not in the table.
    """

    table: Any
    numbers: Sequence[int]
    texts: Sequence[object]
    faults: dict[int, Fault]


class Reader:
    """Reads parts of the inputs; those that follow each other without going back."""

    def __init__(self, inputs: Sequence[Input], column: str) -> None:
        self._inputs = inputs
        self._column = column
        self._parquet: ParquetRows | None = None

    def read(self, part: Part) -> PartRows:
        """Raises DatasetInvalid if the input is not what it was when it was cut."""
        source = self._inputs[part.source]
        try:
            if source.format == "parquet":
                return self._read_parquet(source, part)
            found = list(lines(source.path, source.format, part.offset, part.length))
        except (OSError, pa.ArrowException) as error:
            raise unreadable(source.path, error) from error
        if len(found) != part.rows:
            raise _changed(source.path)
        return self._from_lines(source, part, [line.values for line in found])

    def _from_lines(self, source: Input, part: Part, values: list[Any]) -> PartRows:
        names = [column.name for column in source.columns]
        fields = source.format != "jsonl"
        rows = [_fields(row, len(names)) for row in values] if fields else values
        numbered = dict(enumerate(rows, start=part.first_row))
        faults = {number: row for number, row in numbered.items() if isinstance(row, Fault)}
        sound = {number: row for number, row in numbered.items() if number not in faults}
        arrays = [
            pa.array([row[at] for row in sound.values()], pa.string())
            if fields
            else json_array(self._values(sound.values(), column.name), column.kind)
            for at, column in enumerate(source.columns)
        ]
        at: Any = names.index(self._column) if fields else self._column
        texts = [row[at] if fields else row.get(at) for row in sound.values()]
        return PartRows(pa.table(arrays, names), list(sound), texts, faults)

    def _values(self, rows: Iterable[Any], name: str) -> Iterator[Any]:
        """Of one name of JSON lines; what is no text where one should be is null."""
        for row in rows:
            value = row.get(name)
            yield value if name != self._column or isinstance(value, str) else None

    def _read_parquet(self, source: Input, part: Part) -> PartRows:
        if self._parquet is None or not self._parquet.stands_at(source.path, part.first_row):
            self._parquet = ParquetRows(source.path, part.first_row)
        table = self._parquet.take(part.rows)
        if len(table) != part.rows:
            raise _changed(source.path)
        texts = _texts(table.column(self._column))
        faults = {
            number: text
            for number, text in enumerate(texts, start=part.first_row)
            if isinstance(text, Fault)
        }
        sound = [at for at in range(part.rows) if part.first_row + at not in faults]
        return PartRows(
            table.take(pa.array(sound, pa.int64())) if faults else table,
            [part.first_row + at for at in sound],
            [texts[at] for at in sound],
            faults,
        )


def _texts(column: Any) -> list[object]:
    """Each text of a column, None where it is null, or what is wrong with it.

    Parquet says of a column that it is UTF-8, and nobody who wrote it had to prove it.
    """
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_text(value) for value in column]


def _text(value: Any) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return NOT_UTF8


def _fields(row: Any, wanted: int) -> Any:
    """A row of as many fields as the first line names, or what is wrong with it."""
    if isinstance(row, Fault) or len(row) == wanted:
        return row
    if len(row) > wanted and not any(islice(row, wanted, None)):
        return row[:wanted]
    return Fault(
        "wrong_fields",
        f"the row has {len(row)} fields, the first line names {wanted}: a text that holds the "
        "separator has to be quoted in .csv, and cannot stand in .tsv",
    )


def _changed(path: Path) -> DatasetInvalid:
    return DatasetInvalid(
        f"{path} has other rows than when the job was begun: name another folder for the output"
    )
