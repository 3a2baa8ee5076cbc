"""Labelled and plain texts from people's files, or from a data set of the Hugging Face hub."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from service.errors import DatasetInvalid, InvalidField
from service.offline.data import Example, Label, ScoredPair
from service.runtime.outputs import ProblemType

Row = Mapping[str, Any]


class _Tsv(csv.Dialect):
    delimiter = "\t"
    quoting = csv.QUOTE_NONE
    lineterminator = "\n"


_CSV_DIALECTS: dict[str, type[csv.Dialect]] = {".tsv": _Tsv, ".csv": csv.excel}
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
# A field may be as long as a text, which is longer than the csv module expects.
LONGEST_FIELD_CHARS = 16 * 1024 * 1024


@dataclass(frozen=True)
class Columns:
    """What a file calls its columns; `pair` names that of second texts, if it has any."""

    text: str = "text"
    label: str = "label"
    pair: str | None = None


def read_problem_type(word: str) -> ProblemType:
    """The word of the command line.

    Raises:
        InvalidField: it is none of the three.
    """
    if word not in get_args(ProblemType):
        raise InvalidField(
            "problem-type is single_label, multi_label or regression", param="problem_type"
        )
    return cast(ProblemType, word)


def read_examples(
    source: str | Path, columns: Columns | None = None, problem_type: ProblemType = "single_label"
) -> list[Example]:
    """Labelled texts, or pairs of texts, as they stand; `clean` has yet to look at them.

    Args:
        source: a .csv, .tsv (nothing quoted), .jsonl or .parquet file, or the id of a data set,
            perhaps with a configuration and a split: `org/name:config#split`.
        problem_type: how labels are written: a name; names in a list or separated by `|` or `,`;
            a number.

    Raises:
        DatasetInvalid: the source cannot be read, lacks a column, or has a label of another kind.
    """
    columns = columns or Columns()
    wanted = [columns.text, columns.label, *([columns.pair] if columns.pair else [])]
    return [
        Example(
            text=_text(row[columns.text]),
            label=_label(row[columns.label], problem_type, f"{source}, row {number}"),
            pair=_text(row[columns.pair]) if columns.pair else None,
        )
        for number, row in enumerate(read_rows(source, wanted), start=1)
    ]


def read_scored_pairs(
    source: str | Path, columns: tuple[str, str, str] = ("sentence1", "sentence2", "score")
) -> list[ScoredPair]:
    """Pairs of texts and how alike people found them.

    Raises:
        DatasetInvalid: as `read_examples`, or a score is not a finite number.
    """
    first, second, score = columns
    return [
        ScoredPair(
            _text(row[first]), _text(row[second]), _number(row[score], f"{source}, row {number}")
        )
        for number, row in enumerate(read_rows(source, columns), start=1)
    ]


def read_belonging_pairs(
    source: str | Path, columns: tuple[str, str] = ("sentence1", "sentence2")
) -> list[ScoredPair]:
    """Pairs of texts that belong together, such as a question and its answer; each has score 1."""
    rows = read_rows(source, columns)
    return [ScoredPair(_text(row[columns[0]]), _text(row[columns[1]]), 1.0) for row in rows]


def read_texts(source: str | Path, columns: Sequence[str] = ("text",)) -> list[str]:
    """Texts without labels: the lines of a .txt file, or those of `columns` that the file has.

    Raises:
        DatasetInvalid: the source cannot be read, or has none of the columns.
    """
    if Path(source).suffix == ".txt":
        return [text for text in _lines(Path(source)) if text.strip()]
    rows = list(read_rows(source, ()))
    found = [column for column in columns if rows and column in rows[0]]
    if not found:
        raise DatasetInvalid(_missing(source, columns, rows))
    return [text for row in rows for column in found if (text := _text(row[column])).strip()]


def read_rows(source: str | Path, columns: Sequence[str]) -> list[Row]:
    """All rows; each has at least the columns."""
    path = Path(source)
    if path.suffix in _CSV_DIALECTS:
        rows = _csv_rows(path)
    elif path.suffix == ".jsonl":
        rows = list(_json_rows(path))
    elif path.suffix == ".parquet":
        rows = _parquet_rows(path)
    elif path.suffix in SUFFIXES or path.is_file():
        raise DatasetInvalid(f"{source} is not a file of rows: {', '.join(SUFFIXES[:4])} are")
    else:
        rows = _hub_rows(str(source))
    if not rows or not set(columns) <= rows[0].keys():
        raise DatasetInvalid(_missing(source, columns, rows))
    return rows


def _missing(source: str | Path, columns: Sequence[str], rows: Sequence[Row]) -> str:
    wanted = ", ".join(map(repr, columns))
    has = ", ".join(map(repr, rows[0])) if rows else "no rows"
    return f"{source} needs rows and the columns {wanted}; it has {has}: name the columns to read"


def _csv_rows(path: Path) -> list[Row]:
    csv.field_size_limit(LONGEST_FIELD_CHARS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, dialect=_CSV_DIALECTS[path.suffix]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetInvalid(f"{path} cannot be read: {error}") from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetInvalid(f"{path} cannot be read: {error}") from error


def _json_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DatasetInvalid(f"{path}, line {number} is not JSON") from error
            if not isinstance(row, dict):
                raise DatasetInvalid(f"{path}, line {number} is not a JSON object")
            yield row


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

    name, _, part = source.partition("#")
    name, _, config = name.partition(":")
    try:
        found = datasets.load_dataset(name, config or None, split=part or "train")
    except Exception as error:  # the library raises whatever its parts do
        raise DatasetInvalid(
            f"{source!r} is neither a file nor a data set that could be loaded "
            f"({type(error).__name__}): files end in {', '.join(SUFFIXES[:4])}"
        ) from error
    features = found.features
    return [_named_classes(row, features) for row in found]


def _named_classes(row: Row, features: Mapping[str, Any]) -> Row:
    """Data sets of the hub number their classes; their names are what is learned."""
    return {
        column: features[column].int2str(value)
        if hasattr(features[column], "int2str") and isinstance(value, int) and value >= 0
        else value
        for column, value in row.items()
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _label(value: object, problem_type: ProblemType, where: str) -> Label:
    if problem_type == "regression":
        return _number(value, where)
    if problem_type == "single_label":
        return _name(value)
    if isinstance(value, list | tuple):
        names = [_name(entry) for entry in value]
    else:
        names = _text(value).replace("|", ",").split(",")
    return tuple(sorted({name.strip() for name in names if name.strip()}))


def _name(value: object) -> str:
    """Spreadsheets and data frames make 1.0 of a class called 1."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None or value != value else str(value).strip()


def _number(value: object, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever is none raises
    except (TypeError, ValueError) as error:
        raise DatasetInvalid(f"{where}: what should be a number is none") from error
    if not math.isfinite(number):
        raise DatasetInvalid(f"{where}: what should be a number is not finite")
    return number
