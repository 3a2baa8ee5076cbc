"""Lines of a bulk stream: cut from the body as it comes, each parsed or at fault by itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.errors import BlankText, EncserveError, InvalidField, TextTooLong

# What goes to the engine at once: enough for full batches, little enough to be fair.
PORTION_LINES = 64
PORTION_TOKENS = 16_000
SPECIAL_TOKENS = 2


@dataclass(slots=True)
class Line:
    """A text to be answered, or what was wrong with its line.

    index: from 0, blank lines not counted. key: what the caller calls it.
    """

    index: int
    text: str = field(repr=False)
    key: Any = None
    error: EncserveError | None = None

    @property
    def tokens(self) -> int:
        """About how many at most, before it is tokenized: seldom more than characters."""
        return 0 if self.error else len(self.text) + SPECIAL_TOKENS


class LineSplitter:
    """Bytes as they arrive to lines, never more than `max_line_bytes` of an unfinished one kept."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()
        self._too_long = False
        self.lines = 0

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` completes."""
        *whole, rest = data.split(b"\n")
        found: list[Line] = []
        for part in whole:
            self._append(part)
            found += self._finished()
        self._append(rest)
        return found

    def end(self) -> list[Line]:
        """The last line, if it had no newline."""
        return list(self._finished())

    def _append(self, part: bytes) -> None:
        self._too_long |= len(self._rest) + len(part) > self._max_line_bytes
        if self._too_long:
            self._rest.clear()
        else:
            self._rest += part

    def _finished(self) -> Iterator[Line]:
        raw, too_long = bytes(self._rest), self._too_long
        self._rest.clear()
        self._too_long = False
        if too_long or raw.strip():
            yield self._parsed(raw, too_long)

    def _parsed(self, raw: bytes, too_long: bool) -> Line:
        index = self.lines
        self.lines += 1
        if too_long:
            return Line(
                index,
                "",
                error=TextTooLong(
                    f"the line has more than {self._max_line_bytes} bytes: shorten it, or raise "
                    "ENCSERVE_MAX_BULK_LINE_BYTES",
                    param="line",
                ),
            )
        try:
            return _line_of(index, orjson.loads(raw))
        except orjson.JSONDecodeError:
            return Line(index, "", error=InvalidField("the line is not JSON", param="line"))


def _line_of(index: int, value: object) -> Line:
    if isinstance(value, str):
        return Line(index, value, error=_fault(value))
    if not isinstance(value, dict) or not isinstance(value.get("input"), str):
        wanted = 'a line is a string, or {"input": "a string", "id": anything short}'
        return Line(index, "", error=InvalidField(wanted, param="line"))
    text, key = value["input"], value.get("id")
    if isinstance(key, list | dict):
        return Line(index, "", error=InvalidField("an id is a string or a number", param="id"))
    return Line(index, text, key, _fault(text))


def _fault(text: str) -> EncserveError | None:
    return None if text.strip() else BlankText("the text is empty or blank", param="input")


def portions(lines: list[Line], max_lines: int, max_tokens: int) -> Iterator[list[Line]]:
    """The lines in their order, as many at a time as the engine is given: one, or what fits."""
    max_lines, max_tokens = min(max_lines, PORTION_LINES), min(max_tokens, PORTION_TOKENS)
    portion: list[Line] = []
    tokens = 0
    for line in lines:
        if portion and (len(portion) == max_lines or tokens + line.tokens > max_tokens):
            yield portion
            portion, tokens = [], 0
        portion.append(line)
        tokens += line.tokens
    if portion:
        yield portion
