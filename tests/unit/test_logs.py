"""Log lines for programs and for people, and settings without their secrets."""

import io
import json
import logging
import os
import pty
import sys

import pytest

from service.api.reports import level_of
from service.logs import JsonFormatter, TextFormatter, formatter_for, log_fields
from service.masking import settings_shown
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
    shown = settings_shown(settings)
    assert "hush" not in str(shown)
    assert shown["admin_key"] == "***"
    assert shown["otlp_endpoint"] == "https://***@collector/traces?***"
    assert shown["sources"] == {
        "sentiment": "https://***@models.example/s.tar?***",
        "other": "hf://org/name",
    }
    assert settings_shown(load_settings())["admin_key"] == ""


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
