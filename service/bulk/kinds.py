"""Which types the columns of JSON lines have, from all rows of all files."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import pyarrow as pa

from service.bulk.job import Column, Kind
from service.errors import DatasetInvalid

MOST_COLUMNS = 1000
_INT64 = 2**63
# Whole numbers up to here have a float of their own.
_EXACT_IN_FLOAT = 2**53

ARROW_TYPES: dict[Kind, Any] = {
    "string": pa.string(),
    "json": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}


class KindsSeen:
    """Takes note of each row; a column has the type of all its values, or is kept as JSON text.

    Args:
        texts: the column whose rows are only those with a text in it.
    """

    def __init__(self, texts: str) -> None:
        self._texts = texts
        self._seen: dict[str, set[str]] = {}

    def note(self, row: Mapping[str, Any]) -> None:
        """Raises DatasetInvalid if there are more than `MOST_COLUMNS` names."""
        for name, value in row.items():
            kinds = self._seen.get(name)
            if kinds is None:
                kinds = self._seen[name] = set()
                self._require_few()
            if value is not None and name != self._texts:
                kinds.add(_kind_of(value))

    def columns(self) -> tuple[Column, ...]:
        return tuple(Column(name=name, kind=_joined(kinds)) for name, kinds in self._seen.items())

    def _require_few(self) -> None:
        if len(self._seen) > MOST_COLUMNS:
            raise DatasetInvalid(
                f"the JSON lines have more than {MOST_COLUMNS} different names: put what varies "
                "into one object under one name"
            )


def _kind_of(value: object) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return "int64" if abs(value) <= _EXACT_IN_FLOAT else "wide"
    return "float64" if isinstance(value, float) else "json"


def _joined(kinds: set[str]) -> Kind:
    if kinds <= {"string"}:
        return "string"
    if kinds <= {"int64", "wide"}:
        return "int64"
    if kinds <= {"int64", "float64"}:
        return "float64"
    return "bool" if kinds == {"bool"} else "json"


def json_array(values: Iterable[Any], kind: Kind) -> Any:
    """Values of a column of JSON lines as an Arrow array; None stays null."""
    if kind == "json":
        values = [None if value is None else orjson.dumps(value).decode() for value in values]
    elif kind == "float64":
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, ARROW_TYPES[kind])
