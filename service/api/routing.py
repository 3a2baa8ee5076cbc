"""What all routes share: the engine a request means, and how answers and errors are documented."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import Header
from starlette.requests import Request
from starlette.responses import Response

from service.api.errors import error_body, status_of
from service.api.examples import Examples
from service.api.schemas import ErrorResponse
from service.batching.queue import Priority
from service.engine import Answer, Engine
from service.errors import (
    BlankText,
    BodyTooLarge,
    DeadlineExceeded,
    EncserveError,
    InvalidField,
    Overloaded,
    UnknownModel,
    UnsupportedMediaType,
)
from service.registry import EngineRegistry
from service.store.manifest import Task

TRUNCATED_HEADER = "X-Truncated-Texts"

PriorityHeader = Annotated[
    Literal["interactive", "bulk"],
    Header(alias="X-Priority", description="bulk runs on what interactive requests leave"),
]

_DOCUMENTED = (
    InvalidField("the field 'input' is required", param="input"),
    BlankText("the text is empty or blank", param="input[0]"),
    UnknownModel("no such model; loaded are embedding, sentiment", param="model"),
    BodyTooLarge("the body is larger than 4194304 bytes: …"),
    UnsupportedMediaType("send the header 'Content-Type: application/json'"),
    Overloaded("the queue is full: send the request again later", retry_after_s=1),
    DeadlineExceeded("no answer within 60 s (ENCSERVE_REQUEST_TIMEOUT_S): …"),
)


def engines_of(request: Request) -> EngineRegistry:
    engines: EngineRegistry = request.app.state.engines
    return engines


def select_engine(request: Request, task: Task, model: str | None) -> Engine:
    """The engine that the request means, noted for the request's metrics."""
    engine = engines_of(request).for_task(task, model)
    request.state.model = engine.name
    return engine


def json_response(content: dict[str, Any], answer: Answer) -> Response:
    """The body, straight from numpy; a header says how many texts were truncated."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY),
        headers={TRUNCATED_HEADER: str(sum(answer.truncated))},
        media_type="application/json",
    )


def usage(answer: Answer) -> dict[str, int]:
    tokens = sum(answer.tokens)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def priority_of(header: str) -> Priority:
    return Priority[header.upper()]


def as_list(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def documented_responses(examples: Examples | None = None) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of a model route by status: its examples, and the errors of all."""
    by_status: dict[int | str, dict[str, Any]] = {
        "default": {"model": ErrorResponse, "description": "Any other error"}
    }
    if examples is not None:
        by_status[200] = {"content": {"application/json": {"examples": examples}}}
    for error in _DOCUMENTED:
        status = status_of(type(error))
        entry = by_status.setdefault(status, _empty_entry(error))
        entry["content"]["application/json"]["examples"][error.code] = {
            "value": orjson.loads(error_body(error.code, error.message, error.param, status))
        }
    return by_status


def _empty_entry(error: EncserveError) -> dict[str, Any]:
    return {
        "model": ErrorResponse,
        "description": error.code.replace("_", " ").capitalize(),
        "content": {"application/json": {"examples": {}}},
    }
