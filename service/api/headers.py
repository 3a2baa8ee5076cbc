"""Headers that every route with a body takes, and those that every answer of a model carries."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from starlette.datastructures import Headers
from starlette.requests import Request

from service.answers import Answer
from service.batching.queue import Priority
from service.engine import Engine
from service.errors import InvalidField
from service.inputs import Input, characters
from service.settings import Settings

PRIORITY = "X-Priority"
TIMEOUT = "X-Request-Timeout-Ms"
EXPECTED_VERSION = "X-Expected-Version"
MODEL, VERSION, DIGEST = "X-Model", "X-Model-Version", "X-Model-Digest"
TRUNCATED = "X-Truncated-Texts"

PriorityName = Literal["interactive", "bulk"]
MOST_TIMEOUT_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class CallHeaders:
    """What the headers of a request say; None where they say nothing."""

    priority: Priority
    timeout_s: float | None
    expected_version: str | None


def _parameter(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": description}


OPENAPI_PARAMETERS = [
    _parameter(
        PRIORITY,
        {"type": "string", "enum": list(get_args(PriorityName)), "default": "interactive"},
        "bulk runs on what interactive requests leave",
    ),
    _parameter(
        TIMEOUT,
        {"type": "integer", "minimum": 1, "maximum": MOST_TIMEOUT_MS},
        "give up after this many milliseconds: what still waits is not computed",
    ),
    _parameter(
        EXPECTED_VERSION,
        {"type": "string"},
        "answer 409 unless this version (or digest) of the model serves",
    ),
]


def read_headers(headers: Headers) -> CallHeaders:
    """The headers above.

    Raises:
        InvalidField: one of them has a value that it cannot have.
    """
    return CallHeaders(
        _priority(headers.get(PRIORITY, "interactive")),
        _timeout_s(headers.get(TIMEOUT)),
        headers.get(EXPECTED_VERSION),
    )


def answer_headers(engine: Engine, answer: Answer) -> dict[str, str]:
    """Which model has answered, and how many texts it did not read whole."""
    return engine_headers(engine) | {TRUNCATED: str(sum(answer.truncated))}


def engine_headers(engine: Engine) -> dict[str, str]:
    """Which model answers: the digest is of the file that is served."""
    return {
        MODEL: engine.name,
        VERSION: engine.version,
        DIGEST: f"sha256:{engine.digest}",
    }


def compute_headers(request: Request, answer: Answer, texts: Sequence[Input]) -> dict[str, str]:
    """What text-embeddings-inference says of the work, in whole milliseconds.

    Tokenizing is of the request, waiting and inference are the mean of its texts.
    """
    total_ms = _ms(time.perf_counter() - request.state.started_s)
    settings: Settings = request.app.state.settings
    return {
        "x-compute-type": settings.provider,
        "x-compute-time": total_ms,
        "x-compute-characters": str(sum(map(characters, texts))),
        "x-compute-tokens": str(sum(answer.tokens)),
        "x-total-time": total_ms,
        "x-tokenization-time": _ms(answer.tokenize_s),
        "x-queue-time": _ms(answer.queue_s),
        "x-inference-time": _ms(answer.infer_s),
    }


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))


def _priority(value: str) -> Priority:
    if value not in get_args(PriorityName):
        raise InvalidField(f"{PRIORITY} must be interactive or bulk", param=PRIORITY)
    return Priority[cast(PriorityName, value).upper()]


def _timeout_s(value: str | None) -> float | None:
    if value is None:
        return None
    # isdecimal alone takes digits of other scripts, which are none of HTTP's.
    if not (value.isascii() and value.isdecimal() and 0 < int(value[:9]) <= MOST_TIMEOUT_MS):
        raise InvalidField(
            f"{TIMEOUT} must be a number of milliseconds from 1 to {MOST_TIMEOUT_MS}",
            param=TIMEOUT,
        )
    return int(value) / 1000
