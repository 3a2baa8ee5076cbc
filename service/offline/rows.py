"""Rows of people's files, or of a data set of the Hugging Face hub, as they stand."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from service.errors import DatasetInvalid

Row = Mapping[str, Any]


class _Csv(csv.excel):
    # Else a quote that is never closed swallows the rest of the file as one text.
    strict = True


class _Tsv(csv.Dialect):
    delimiter = "\t"
    quoting = csv.QUOTE_NONE
    lineterminator = "\n"


_CSV_DIALECTS: dict[str, type[csv.Dialect]] = {".tsv": _Tsv, ".csv": _Csv}
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
# A field may be as long as a text, which is longer than the csv module expects.
LONGEST_FIELD_CHARS = 16 * 1024 * 1024


def read_rows(source: str | Path, columns: Sequence[str], perhaps: Sequence[str] = ()) -> list[Row]:
    """All rows, at least one; each has the same columns, None where it states nothing.

    Args:
        source: a .csv, .tsv (nothing quoted), .jsonl or .parquet file, or the id of a data set,
            perhaps with a configuration and a split: `org/name:config#split`.
        columns: the rows have at least these.
        perhaps: columns that are read as well if the rows have them.

    Raises:
        DatasetInvalid: the source cannot be read, has no rows, lacks a column, or has one twice.
    """
    rows = _rows(source, {*columns, *perhaps})
    if not rows or not set(columns) <= rows[0].keys():
        raise missing_columns(source, columns, rows)
    return rows


def read_lines(path: Path) -> list[str]:
    """The lines of a file of UTF-8.

    Raises:
        DatasetInvalid: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def missing_columns(
    source: str | Path, columns: Sequence[str], rows: Sequence[Row]
) -> DatasetInvalid:
    """The error of rows that lack the columns; it names those they have."""
    wanted = ", ".join(map(repr, columns))
    has = ", ".join(map(repr, rows[0])) if rows else "no rows"
    return DatasetInvalid(
        f"{source} needs rows and the columns {wanted}; it has {has}: name the columns to read"
    )


def _rows(source: str | Path, wanted: Set[str]) -> list[Row]:
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix in _CSV_DIALECTS:
        return _csv_rows(path, _CSV_DIALECTS[suffix], wanted)
    if suffix == ".jsonl":
        return _with_all_columns(list(_json_rows(path)))
    if suffix == ".parquet":
        return _parquet_rows(path)
    if suffix == ".txt" or path.is_file():
        raise DatasetInvalid(f"{source} is not a file of rows: {', '.join(SUFFIXES)} are")
    return _hub_rows(str(source))


def _csv_rows(path: Path, dialect: type[csv.Dialect], wanted: Set[str]) -> list[Row]:
    csv.field_size_limit(LONGEST_FIELD_CHARS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, dialect=dialect)
            _refuse_repeated(path, reader.fieldnames or (), wanted)
            rows: list[dict[Any, Any]] = list(reader)
    except csv.Error as error:
        raise DatasetInvalid(
            f"{path} cannot be read: {error}; a quoted field of .csv ends in a quote, and doubles "
            "those inside"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    _refuse_surplus(path, rows)
    return list(rows)


def _refuse_repeated(path: Path, names: Sequence[str], wanted: Set[str]) -> None:
    """Of two columns of one name, the reader would keep the last without a word."""
    if repeated := sorted(name for name in wanted if names.count(name) > 1):
        raise DatasetInvalid(
            f"{path} has more than one column {repeated[0]!r}: rename all but the one to read"
        )


def _refuse_surplus(path: Path, rows: Sequence[dict[Any, Any]]) -> None:
    """Fields without a name stand under None: a text with a bare comma was cut there."""
    for number, row in enumerate(rows, start=1):
        if any(row.pop(None, ())):
            raise DatasetInvalid(
                f"{path}, row {number} has more fields than the first line names: a text that "
                "holds the separator has to be quoted in .csv, and cannot stand in .tsv"
            )


def _json_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DatasetInvalid(f"{path}, line {number} is not JSON") from error
            if not isinstance(row, dict):
                raise DatasetInvalid(f"{path}, line {number} is not a JSON object")
            yield row


def _with_all_columns(rows: Sequence[Row]) -> list[Row]:
    """What is not known is often left out of JSON."""
    blank = dict.fromkeys(column for row in rows for column in row)
    return [{**blank, **row} for row in rows]


def _parquet_rows(path: Path) -> list[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DatasetInvalid(f"{path} cannot be read: {type(error).__name__}") from error
    return rows


def _hub_rows(source: str) -> list[Row]:
    """A data set by its id; `datasets` also takes a folder, and keeps what it downloads."""
    import datasets

    name, config, part = _parts_of(source)
    try:
        found = datasets.load_dataset(name, config, split=part)
        features = found.features
        return [{key: _named(value, features[key]) for key, value in row.items()} for row in found]
    except Exception as error:  # the library raises whatever its parts do
        raise DatasetInvalid(
            f"{source!r} is neither a file nor a data set that could be loaded "
            f"({type(error).__name__}): files end in {', '.join(SUFFIXES)}; a data set is written "
            "org/name:config#split, and the first time it has to be downloaded"
        ) from error


def _parts_of(source: str) -> tuple[str, str | None, str]:
    name, _, part = source.partition("#")
    if Path(name).exists():
        return name, None, part or "train"
    name, _, config = name.partition(":")
    return name, config or None, part or "train"


def _named(value: Any, feature: Any) -> Any:
    """Data sets of the hub number their classes, -1 for none; their names are what is learned."""
    if hasattr(feature, "int2str") and isinstance(value, int):
        return feature.int2str(value) if value >= 0 else None
    inner = getattr(feature, "feature", None)
    if inner is not None and isinstance(value, list):
        return [_named(entry, inner) for entry in value]
    return value


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> DatasetInvalid:
    if isinstance(error, UnicodeDecodeError):
        why = f"byte {error.start} is not UTF-8; save it in that encoding"
    else:
        why = error.strerror or type(error).__name__
    return DatasetInvalid(f"{path} cannot be read: {why}")
