"""How log lines are written: as JSON for programs, or as text for people; never a caller's text.

A record may have `fields`, a mapping that becomes part of the line. What they hold is for whoever
logs to answer for: ids, names, counts and times.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import orjson

LogFormat = Literal["auto", "json", "text"]

# How long a line may wait for others, and how many wait at most.
TOGETHER_S = 0.05
MOST_LINES = 128


def set_up_logging(level: str, log_format: LogFormat, stream: TextIO) -> None:
    """Write what is at least as severe as `level` to `stream`."""
    # No line shows who wrote it, and finding that out is a quarter of a line's cost.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = LinesTogether(stream)
    handler.setFormatter(formatter_for(log_format, stream))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def formatter_for(log_format: LogFormat, stream: TextIO) -> logging.Formatter:
    """Auto is text on a terminal, JSON elsewhere."""
    as_text = stream.isatty() if log_format == "auto" else log_format == "text"
    return TextFormatter() if as_text else JsonFormatter()


def log_fields(
    logger: logging.Logger, level: int, message: str, fields: Mapping[str, object]
) -> None:
    """Log a message that has fields.

    The place in the source, which no format shows and which costs more than all the rest, is not
    looked for.
    """
    if logger.isEnabledFor(level):
        record = logger.makeRecord(logger.name, level, "", 0, message, (), None)
        record.fields = fields
        logger.handle(record)


class LinesTogether(logging.StreamHandler[TextIO]):
    """Writes the lines of some moments at once: each write is a call of the system, and wakes
    whoever reads the log.

    A line waits only while an event loop runs that will write it, and never if it is a warning or
    worse, which takes those before it along. At the end of the process `logging` writes the rest.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:  # whatever a formatter raises: a line that fails harms no request
            self.handleError(record)
            return
        is_urgent = record.levelno >= logging.WARNING or len(self._lines) >= MOST_LINES
        if is_urgent or not self._will_be_written():
            self.flush()

    def flush(self) -> None:
        """Write what waits; nothing happens where nobody takes it."""
        self.acquire()
        try:
            lines, self._lines, self._loop = self._lines, [], None
            with suppress(OSError, ValueError):
                self.stream.write("".join(lines))
                self.stream.flush()
        finally:
            self.release()

    def _will_be_written(self) -> bool:
        if self._loop is not None and not self._loop.is_closed():
            return True
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
            self._loop.call_later(TOGETHER_S, self.flush)
            return True
        return False


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode()
        except TypeError:
            # A file's name may hold bytes that are no UTF-8: escaped, they are JSON all the same.
            return json.dumps(line | {"time": line["time"].isoformat()}, default=str)


class TextFormatter(logging.Formatter):
    """Local time, level, logger, message, and the fields as name=value."""

    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        told = super().formatMessage(record)
        return " ".join([told, *(f"{name}={_brief(one)}" for name, one in _fields(record).items())])


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return fields


def _brief(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{_brief(one)}" for name, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ",".join(map(_brief, value)) or "-"
    return str(value) or "-"
