"""From files to inputs and parts: one walk through every file, once a job."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from service.bulk.inputs import FORMATS
from service.bulk.job import Column, Format, Input, Part
from service.bulk.kinds import KindsSeen
from service.bulk.lines import Fault, all_lines, lines, read_header, unreadable
from service.bulk.parquet_file import row_ends
from service.errors import DatasetInvalid, InvalidField

if TYPE_CHECKING:
    from hashlib import _Hash

# Names are looked for in so many JSON lines.
LINES_FOR_NAMES = 100
# A part ends before it holds more, however few rows that are: parts are held in memory.
MOST_PART_BYTES = 32 * 2**20
DEFAULT_COLUMN = "text"
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def choose_column(path: Path, column: str | None) -> str:
    """The column of texts: the one that is named, else `text`, else the only one.

    Raises:
        InvalidField: the file has no such column, or no one can tell which.
        DatasetInvalid: it cannot be read.
    """
    with _readable(path):
        names = _names(path)
    if column is None:
        column = names[0] if len(names) == 1 else DEFAULT_COLUMN
    if column not in names:
        raise InvalidField(
            f"{path} has no column {column!r}: it has {', '.join(map(repr, names)) or 'none'}; "
            "name the one that holds the texts with --column",
            param="column",
        )
    return column


def _names(path: Path) -> list[str]:
    kind = FORMATS[path.suffix.lower()]
    if kind == "parquet":
        return [str(name) for name in _schema(path).names]
    names, start = read_header(path, kind)
    if kind != "jsonl":
        return names
    first = islice(lines(path, kind, start), LINES_FOR_NAMES)
    return list(
        dict.fromkeys(
            name for line in first if isinstance(line.values, dict) for name in line.values
        )
    )


def cut(
    paths: Sequence[Path], column: str, part_rows: int, advance: Callable[[int], None]
) -> tuple[tuple[Input, ...], tuple[Part, ...]]:
    """Look through all files.

    Args:
        advance: told how many further MiB were looked through.

    Raises:
        DatasetInvalid: one cannot be read, or they have different columns.
    """
    kind = FORMATS[paths[0].suffix.lower()]
    kinds = KindsSeen(column)
    inputs: list[Input] = []
    parts: list[Part] = []
    seen = Seen(advance)
    for path in paths:
        with _readable(path):
            status = path.stat()
        cuts = []
        digest = hashlib.sha256()
        for one, looked_through in _cuts(path, kind, part_rows, kinds, digest):
            cuts.append(one)
            seen.bytes(looked_through)
        parts += [
            Part(number, len(inputs), *one) for number, one in enumerate(cuts, start=len(parts))
        ]
        inputs.append(
            Input(
                path=path,
                format=kind,
                bytes=status.st_size,
                mtime_ns=status.st_mtime_ns,
                sha256=digest.hexdigest(),
                rows=sum(rows for _, rows, _, _ in cuts),
                columns=_columns(path, kind),
            )
        )
    if kind == "jsonl":
        found = kinds.columns()
        inputs = [source.model_copy(update={"columns": found}) for source in inputs]
    if not parts:
        raise DatasetInvalid(f"{paths[0]} has no rows" if len(paths) == 1 else "no file has rows")
    _require_alike(inputs, column)
    return tuple(inputs), tuple(parts)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises DatasetInvalid if it is not there, or not to be read."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


class Seen:
    """Tells of whole MiB, of bytes that come in any number."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._bytes = 0

    def bytes(self, more: int) -> None:
        before = self._bytes // 2**20
        self._bytes += more
        if steps := self._bytes // 2**20 - before:
            self._advance(steps)


_Cut = tuple[int, int, int, int]


def _cuts(
    path: Path, kind: Format, part_rows: int, kinds: KindsSeen, digest: "_Hash"
) -> Iterator[tuple[_Cut, int]]:
    """First row, rows, offset and length of each part of one file, and the bytes looked through.

    At the end `digest` has taken in the whole file.
    """
    # Here, and not around the loop that takes the parts: what fails there is no fault of the file.
    with _readable(path):
        if kind == "parquet":
            row_bytes = path.stat().st_size / max(1, _parquet(path).metadata.num_rows)
            for first, rows, _, _ in _line_cuts(row_ends(path), 0, part_rows):
                yield (first, rows, 0, 0), int(rows * row_bytes)
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
            return
        _, start = read_header(path, kind)
        for one in _line_cuts(_noted(path, kind, start, kinds, digest), start, part_rows):
            yield one, one[3]


def _noted(
    path: Path, kind: Format, start: int, kinds: KindsSeen, digest: "_Hash"
) -> Iterator[int]:
    """Where each row ends."""
    for line in all_lines(path, kind, start, digest):
        if kind == "jsonl" and not isinstance(line.values, Fault):
            kinds.note(line.values)
        yield line.end


def _line_cuts(ends: Iterable[int], start: int, part_rows: int) -> Iterator[_Cut]:
    first = rows = 0
    last = start
    for end in ends:
        if rows == part_rows or (rows and end - start > MOST_PART_BYTES):
            yield first, rows, start, last - start
            first, rows, start = first + rows, 0, last
        rows += 1
        last = end
    if rows:
        yield first, rows, start, last - start


def _columns(path: Path, kind: Format) -> tuple[Column, ...]:
    of = "arrow" if kind == "parquet" else "string"
    return tuple(Column(name=name, kind=of) for name in ([] if kind == "jsonl" else _names(path)))


def _require_alike(inputs: Sequence[Input], column: str) -> None:
    first = inputs[0]
    if first.format == "parquet":
        _require_alike_parquet(inputs, column)
        return
    for source in inputs:
        if source.columns != first.columns:
            raise _unlike(source.path, first.path)


def _require_alike_parquet(inputs: Sequence[Input], column: str) -> None:
    schema = _schema(inputs[0].path)
    kind = schema.field(column).type
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_text(held) for is_text in _TEXTS):
        raise InvalidField(
            f"column {column!r} of {inputs[0].path} holds {kind}, not texts: name another with "
            "--column",
            param="column",
        )
    for source in inputs:
        if not _schema(source.path).equals(schema):
            raise _unlike(source.path, inputs[0].path)


def _unlike(path: Path, first: Path) -> DatasetInvalid:
    return DatasetInvalid(
        f"{path} has other columns than {first}: the files of one job have the same; give each "
        "kind a job of its own"
    )


def _parquet(path: Path) -> Any:
    with _readable(path):
        return parquet.ParquetFile(path)


def _schema(path: Path) -> Any:
    return _parquet(path).schema_arrow
