"""Log lines for programs and for people, and settings without their secrets."""

import asyncio
import io
import json
import logging
import os
import pty
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from service.api.reports import level_of
from service.logs import (
    MOST_LINES,
    JsonFormatter,
    LinesTogether,
    TextFormatter,
    formatter_for,
    log_fields,
)
from service.masking import settings_shown, shown
from service.settings import load_settings


def written(formatter: logging.Formatter, message: str, **fields: object) -> str:
    stream = io.StringIO()
    logger = logging.Logger("a.logger")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    log_fields(logger, logging.INFO, message, fields)
    return stream.getvalue()


def test_line_for_programs_is_one_json_object() -> None:
    line = written(JsonFormatter(), "two\nlines", ms=1.25, stages={"read": 0.5}, name="é\udcff")
    assert line.count("\n") == 1
    told = json.loads(line)
    assert told.pop("time")
    assert told == {
        "level": "info",
        "logger": "a.logger",
        "message": "two\nlines",
        "ms": 1.25,
        "stages": {"read": 0.5},
        "name": "é\udcff",
    }


def test_line_for_people_names_its_fields() -> None:
    line = written(TextFormatter(), "request", ms=1.25, stages={"read": 0.5, "write": 1}, models=[])
    assert line.endswith(" INFO a.logger: request ms=1.25 stages=read:0.5,write:1 models=-\n")


def test_terminal_gets_text_and_everything_else_json() -> None:
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "rb"), os.fdopen(terminal, "w") as screen:
        assert isinstance(formatter_for("auto", screen), TextFormatter)
        assert isinstance(formatter_for("json", screen), JsonFormatter)
    assert isinstance(formatter_for("auto", io.StringIO()), JsonFormatter)
    assert isinstance(formatter_for("text", io.StringIO()), TextFormatter)


def test_error_keeps_its_traceback() -> None:
    try:
        raise ValueError("7")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    assert json.loads(JsonFormatter().format(record))["exception"].endswith("ValueError: 7")


def test_secrets_of_settings_are_hidden_also_inside_of_addresses() -> None:
    settings = load_settings(
        admin_key="hush",
        otlp_endpoint="https://me:hush@collector/traces?key=hush",
        sources="sentiment=https://me:hush@models.example/s.tar?sig=hush,other=hf://org/name",
    )
    told = settings_shown(settings)
    assert "hush" not in str(told)
    assert told["admin_key"] == "***"
    assert told["otlp_endpoint"] == "https://***@collector/traces?***"
    assert told["sources"] == {
        "sentiment": "https://***@models.example/s.tar?***",
        "other": "hf://org/name",
    }
    assert settings_shown(load_settings())["admin_key"] == ""


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://host/a", "https://host/a"),
        ("s3://bucket/models@2/a", "s3://bucket/models@2/a"),
        ("hf://org/name@main", "hf://org/name@main"),
        ("/a/folder@2", "/a/folder@2"),
        ("https://host:8080?key=hush", "https://host:8080?***"),
        ("https://host/a#hush?hush", "https://host/a#***"),
        ("https://hush@host/a", "https://***@host/a"),
        ("https://me:hush@[::1]:80/a?mail=hu@sh", "https://***@[::1]:80/a?***"),
        # What was forgotten to be written with % may be part of the password.
        ("https://me:hu@sh@host/a", "https://***@host/a"),
        ("https://me:hu/sh@host/a", "https://***"),
        ("https://me:hu@sh/hu@host/a", "https://***"),
        ("https://me:hu?sh@host/a", "https://***"),
        ("https://me:hu#sh@host", "https://***"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_nothing_of_a_login_is_shown_however_it_is_written(
    address: str, told: str, kind: Callable[[str], object]
) -> None:
    assert shown(kind(address)) == str(kind(told))
    assert "hu" not in str(shown(kind(address)))


@pytest.mark.parametrize(
    "endpoint",
    ["http://", "http://me@", "http://me:p@ss@host", "http://host?key=1", "http://#", "ftp://host"],
)
def test_endpoint_of_traces_has_one_host_and_its_login_is_written_with_percent_signs(
    endpoint: str,
) -> None:
    with pytest.raises(ValueError, match="otlp_endpoint"):
        load_settings(otlp_endpoint=endpoint)
    load_settings(otlp_endpoint="https://me:p%40ss@[::1]:4318/traces?key=1")


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [
        ("/v1/embeddings", 200, logging.INFO),
        ("/v1/embeddings", 429, logging.INFO),
        ("/v1/embeddings", 500, logging.WARNING),
        ("/readyz", 200, logging.DEBUG),
        ("/readyz", 503, logging.WARNING),
    ],
)
def test_our_own_faults_are_warnings_and_probes_are_not_told(
    path: str, status: int, level: int
) -> None:
    assert level_of(path, status) == level


class Writes(io.StringIO):
    """What is written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.written = asyncio.Event()

    def write(self, text: str) -> int:
        self.told.append(text)
        self.written.set()
        return len(text)


@pytest.fixture
def writes() -> Writes:
    return Writes()


@pytest.fixture
def logger(writes: Writes) -> logging.Logger:
    logger = logging.Logger("a.logger")
    handler = LinesTogether(writes)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    return logger


def test_lines_of_some_moments_are_written_at_once_and_in_their_order(
    logger: logging.Logger, writes: Writes
) -> None:
    async def log() -> None:
        for number in range(3):
            logger.info("%d", number)
        assert not writes.told
        await asyncio.wait_for(writes.written.wait(), 10)
        writes.written.clear()
        logger.info("again")
        await asyncio.wait_for(writes.written.wait(), 10)

    asyncio.run(log())
    assert writes.told == ["0\n1\n2\n", "again\n"]


def test_warning_waits_for_nothing_and_takes_along_what_waits(
    logger: logging.Logger, writes: Writes
) -> None:
    async def log() -> None:
        logger.info("a request")
        logger.warning("beware")
        assert writes.told == ["a request\nbeware\n"]

    asyncio.run(log())


def test_line_waits_for_no_loop_that_does_not_run(logger: logging.Logger, writes: Writes) -> None:
    async def log() -> None:
        logger.info("nobody comes back for this")

    logger.info("before")
    asyncio.run(log())
    logger.info("after")
    assert "".join(writes.told) == "before\nnobody comes back for this\nafter\n"


def test_what_still_waits_is_written_at_the_end_of_the_process(
    logger: logging.Logger, writes: Writes
) -> None:
    async def log() -> None:
        logger.info("the last words")

    asyncio.run(log())
    logging.shutdown([weakref.ref(logger.handlers[0])])
    assert writes.told == ["the last words\n"]


def test_no_more_lines_wait_than_there_is_room_for(logger: logging.Logger, writes: Writes) -> None:
    async def log() -> None:
        for number in range(2 * MOST_LINES):
            logger.info("%d", number)

    asyncio.run(log())
    assert [told.count("\n") for told in writes.told] == [MOST_LINES, MOST_LINES]


def test_log_that_nobody_takes_harms_nobody(logger: logging.Logger, writes: Writes) -> None:
    writes.write = io.StringIO.write.__get__(writes)  # type: ignore[method-assign]
    writes.close()
    logger.info("into the void")
