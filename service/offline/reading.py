"""Labelled and plain texts from people's files, or from a data set of the Hugging Face hub."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from service.errors import DatasetInvalid, InvalidField
from service.offline.data import Example, Label, ScoredPair
from service.offline.rows import missing_columns, read_lines
from service.offline.rows import read_rows as read_rows  # for readers of other columns
from service.runtime.outputs import ProblemType


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
        source: a file or a data set, as `read_rows` takes them.
        problem_type: how labels are written: a name; names in a list or separated by `|` or `,`;
            a number. What is missing is read as an empty text or name.

    Raises:
        DatasetInvalid: the source cannot be read, lacks a column, or has a text or label of
            another kind; multi_label and regression need a label in each row.
    """
    columns = columns or Columns()
    wanted = [columns.text, columns.label, *([columns.pair] if columns.pair else [])]
    return [
        Example(
            text=_text(row[columns.text], f"{source}, row {number}"),
            label=_label(row[columns.label], problem_type, f"{source}, row {number}"),
            pair=_text(row[columns.pair], f"{source}, row {number}") if columns.pair else None,
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
    named = Columns(text=first, label=score, pair=second)
    return [
        ScoredPair(example.text, example.pair or "", cast(float, example.label))
        for example in read_examples(source, named, "regression")
    ]


def read_belonging_pairs(
    source: str | Path, columns: tuple[str, str] = ("sentence1", "sentence2")
) -> list[ScoredPair]:
    """Pairs of texts that belong together, such as a question and its answer; each has score 1.

    Raises:
        DatasetInvalid: the source cannot be read or lacks a column.
    """
    first, second = columns
    return [
        ScoredPair(
            _text(row[first], f"{source}, row {number}"),
            _text(row[second], f"{source}, row {number}"),
            1.0,
        )
        for number, row in enumerate(read_rows(source, columns), start=1)
    ]


def read_texts(source: str | Path, columns: Sequence[str] = ("text",)) -> list[str]:
    """Texts without labels: the lines of a .txt file, or those of `columns` that the file has.

    Blank ones are left out.

    Raises:
        DatasetInvalid: the source cannot be read, or has none of the columns.
    """
    if Path(source).suffix.lower() == ".txt":
        return [text for text in read_lines(Path(source)) if text.strip()]
    rows = read_rows(source, (), columns)
    found = [column for column in columns if column in rows[0]]
    if not found:
        raise missing_columns(source, columns, rows)
    return [
        text
        for number, row in enumerate(rows, start=1)
        for column in found
        if (text := _text(row[column], f"{source}, row {number}")).strip()
    ]


def _text(value: object, where: str) -> str:
    if isinstance(value, list | dict | bytes):
        raise DatasetInvalid(f"{where}: what should be a text is a {type(value).__name__}")
    return "" if value is None or value != value else str(value)


def _label(value: object, problem_type: ProblemType, where: str) -> Label:
    if problem_type == "regression":
        return _number(value, where)
    return _names(value, where) if problem_type == "multi_label" else _name(value, where)


def _names(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        # No answer is not the answer that none holds.
        raise DatasetInvalid(f"{where} has no labels: write an empty list where none holds")
    if isinstance(value, list):
        names = [_name(entry, where) for entry in value]
    else:
        names = _name(value, where).replace("|", ",").split(",")
    return tuple(sorted({name.strip() for name in names if name.strip()}))


def _name(value: object, where: str) -> str:
    """Spreadsheets and data frames make 1.0 of a class called 1."""
    if isinstance(value, list | dict):
        raise DatasetInvalid(
            f"{where}: what should be a name is a {type(value).__name__}; lists of names are "
            "multi_label"
        )
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None or value != value else str(value).strip()


def _number(value: object, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever is none raises
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetInvalid(f"{where}: what should be a number is none") from error
    if not math.isfinite(number):
        raise DatasetInvalid(f"{where}: what should be a number is not finite")
    return number
