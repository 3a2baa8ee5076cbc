"""Rows of files that are lines, with the bytes they lie in: CSV, TSV and JSON lines.

Whoever cuts a file into parts and whoever reads a part walk through it with the same code, so that
they agree on what a row is.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from service.bulk.job import Format
from service.errors import DatasetInvalid

if TYPE_CHECKING:
    from hashlib import _Hash

# A row is held as a whole; what is longer is as a rule not a file of lines.
LONGEST_ROW_BYTES = 16 * 2**20
_BUFFER_BYTES = 2**20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be encoded. code: a stable word. message: never holds text of the row."""

    code: str
    message: str


NOT_UTF8 = Fault("not_utf8", "the row is not UTF-8: save the file in that encoding")


@dataclass(frozen=True, slots=True)
class Line:
    """One row: its values, a list in CSV and TSV and an object in JSON, or what is wrong with it.

    end: the byte behind it.
    """

    values: Any
    end: int


def read_header(path: Path, kind: Format) -> tuple[list[str], int]:
    """The names of the columns and the byte where rows begin; JSON lines have no names here.

    Raises:
        DatasetInvalid: the first line is not one of names, or has one twice.
    """
    with path.open("rb") as file:
        start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
        if kind == "jsonl":
            return [], start
        file.seek(start)
        first = next(_lines(file, kind, path), None)
    if first is None or isinstance(first.values, Fault):
        raise DatasetInvalid(f"{path} has no first line that names its columns")
    names = [str(name).strip() for name in first.values]
    if len(set(names)) < len(names) or not all(names):
        raise DatasetInvalid(f"{path} names a column twice, or not at all, in its first line")
    return names, first.end


def lines(path: Path, kind: Format, offset: int, length: int | None = None) -> Iterator[Line]:
    """The rows of `length` bytes from `offset`, or of all that follow; blank lines are none.

    Raises:
        DatasetInvalid: a row never ends.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in _lines(file, kind, path):
            yield line
            if length is not None and line.end >= offset + length:
                return


def all_lines(path: Path, kind: Format, offset: int, digest: "_Hash") -> Iterator[Line]:
    """The rows from `offset` to the end, after which `digest` has taken in the whole file.

    Raises as `lines`.
    """
    with BufferedReader(_Digested(path, digest), _BUFFER_BYTES) as file:
        file.read(offset)
        yield from _lines(file, kind, path)


class _Digested(FileIO):
    """A file that is read from its begin to its end, and what `digest` takes in meanwhile."""

    def __init__(self, path: Path, digest: "_Hash") -> None:
        super().__init__(path)
        self._digest = digest

    def readinto(self, buffer: Any, /) -> int:
        read = super().readinto(buffer)
        self._digest.update(memoryview(buffer)[:read])
        return read


def unreadable(path: Path, error: Exception) -> DatasetInvalid:
    """Why a file cannot be read: the system's reason or the kind of error, not a word of the file.

    Libraries quote what they stumble over.
    """
    reason = getattr(error, "strerror", None) or type(error).__name__
    return DatasetInvalid(f"{path} cannot be read: {reason}")


def _lines(file: BinaryIO, kind: Format, path: Path) -> Iterator[Line]:
    if kind == "csv":
        return _csv_lines(file, path)
    return _plain_lines(file, path, _json_object if kind == "jsonl" else _tsv_fields)


def _plain_lines(file: BinaryIO, path: Path, parse: Any) -> Iterator[Line]:
    """A row ends where its line does; an empty line is none."""
    end = file.tell()
    while line := file.readline(LONGEST_ROW_BYTES + 1):
        end += len(line)
        _require_short(len(line), path, end)
        if line.strip(b"\r\n"):
            yield Line(parse(line), end)


def _json_object(line: bytes) -> object:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return Fault("invalid_json", "the line is not JSON")
    if not isinstance(value, dict):
        return Fault("invalid_json", "the line is not a JSON object")
    return value


def _tsv_fields(line: bytes) -> object:
    """Nothing is quoted, as in the other files of tab-separated values that encserve reads."""
    try:
        return line.decode().rstrip("\r\n").split("\t")
    except UnicodeDecodeError:
        return NOT_UTF8


class _Decoded:
    """The lines of a file as the csv module takes them. position: the byte behind the last one."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.position = file.tell()
        self.sound = True
        self.ended = False

    def __iter__(self) -> "_Decoded":
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_ROW_BYTES + 1)
        if not line:
            self.ended = True
            raise StopIteration
        self.position += len(line)
        _require_short(len(line), self._path, self.position)
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.sound = False
            return line.decode(errors="replace")


def _csv_lines(file: BinaryIO, path: Path) -> Iterator[Line]:
    """A quoted field may hold separators and the ends of lines; quotes inside are doubled."""
    csv.field_size_limit(LONGEST_ROW_BYTES)
    decoded = _Decoded(file, path)
    # Strict: else a quote that is never closed swallows the rest of the file as one text.
    reader = csv.reader(decoded, strict=True)
    start = decoded.position
    while True:
        decoded.sound = True
        values: object
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            _require_short(decoded.position - start, path, decoded.position)
            if decoded.ended:
                raise _endless(path, start) from error
            values = Fault("invalid_csv", "a quoted field goes on behind its closing quote")
        if not decoded.sound:
            values = NOT_UTF8
        if values != []:
            yield Line(values, decoded.position)
        start = decoded.position


def _require_short(length: int, path: Path, end: int) -> None:
    if length > LONGEST_ROW_BYTES:
        raise _endless(path, end - length)


def _endless(path: Path, start: int) -> DatasetInvalid:
    return DatasetInvalid(
        f"{path}: the row that begins at byte {start} never ends, or is longer than "
        f"{LONGEST_ROW_BYTES} bytes: close the quote of its last field, or split it"
    )
