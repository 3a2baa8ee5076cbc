"""Log lines for programs and for people, and settings without their secrets."""

import io
import json
import logging
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.api.reports import level_of
from service.logs import JsonFormatter, TextFormatter, formatter_for, log_fields
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
