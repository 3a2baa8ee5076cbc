"""What all routes share: the engine a request means, and how answers and errors are documented."""

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service.answers import Answer
from service.api.answer_schemas import ErrorResponse
from service.api.dialects import OWN, Dialect
from service.api.examples import Examples
from service.api.headers import CallHeaders, answer_headers
from service.engine import Engine
from service.errors import (
    BlankText,
    BodyTooLarge,
    DeadlineExceeded,
    EncserveError,
    InvalidField,
    Overloaded,
    TokenIdsNotAccepted,
    UnknownModel,
    UnsupportedMediaType,
    VersionMismatch,
)
from service.options import Options, Overflow
from service.registry import EngineRegistry
from service.runtime.outputs import Pooling
from service.runtime.tokenizer import Side
from service.settings import Settings
from service.store.manifest import Task

OnError = Literal["fail", "partial"]

_DOCUMENTED = (
    InvalidField("the field 'input' is required", param="input"),
    BlankText("the text is empty or blank", param="input[0]"),
    UnknownModel("no such model; loaded are embedding, sentiment", param="model"),
    VersionMismatch("version 2 of model 'embedding' serves, not the one expected: …"),
    BodyTooLarge("the body is larger than 4194304 bytes: …"),
    UnsupportedMediaType("send the header 'Content-Type: application/json'"),
    Overloaded("the queue is full: send the request again later", retry_after_s=1),
    DeadlineExceeded("no answer within 60 s (ENCSERVE_REQUEST_TIMEOUT_S): …"),
)


def engines_of(request: Request) -> EngineRegistry:
    engines: EngineRegistry = request.app.state.engines
    return engines


def settings_of(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def select_engine(
    request: Request, task: Task, model: str | None, expected_version: str | None = None
) -> Engine:
    """The engine that the request means, noted for the request's metrics.

    Raises:
        UnknownModel, WrongTask: see `EngineRegistry.for_task`.
        VersionMismatch: another version serves than the body, or else the header, expects.
    """
    engine = engines_of(request).for_task(task, model)
    return chosen(request, engine, expected_version, by_version="@" in (model or ""))


def chosen(
    request: Request,
    engine: Engine,
    expected_version: str | None = None,
    *,
    by_version: bool = False,
) -> Engine:
    """`engine`, or a canary that takes this request; noted for the request's metrics.

    Args:
        by_version: the caller has named the version, which no canary takes the place of.

    Raises:
        VersionMismatch: see `select_engine`.
    """
    engines = engines_of(request)
    if engines.canaries and not by_version:
        engine = engines.canary_for(engine, request.headers)
    request.state.model, request.state.version = engine.name, engine.version
    check_version(engine, expected_version or call_of(request).expected_version)
    return engine


def check_version(engine: Engine, expected: str | None) -> None:
    """Raise unless the caller expects this engine's version or digest, or nothing.

    Raises:
        VersionMismatch: vectors of two versions must not be mixed.
    """
    digest = engine.digest
    if expected in (None, engine.version, digest, f"sha256:{digest}"):
        return
    raise VersionMismatch(
        f"version {engine.version} of model {engine.name!r} serves (digest sha256:{digest}), not "
        "the one expected: encode the stored texts anew, or ask for name@version",
        param="expected_version",
    )


def call_of(request: Request) -> CallHeaders:
    """The common headers of the request."""
    call: CallHeaders = request.state.call
    return call


def options_of(
    request: Request,
    *,
    prompt_name: str | None = None,
    overflow: Overflow = "truncate",
    truncation_side: Side = "right",
    windows: Pooling = "mean",
    on_error: OnError = "fail",
) -> Options:
    """What the headers and the body of a request ask of the engine."""
    call = call_of(request)
    return Options(
        priority=call.priority,
        timeout_s=call.timeout_s,
        prompt_name=prompt_name,
        overflow=overflow,
        truncation_side=truncation_side,
        windows=windows,
        partial=on_error == "partial",
        account=request.state.account,
        work=getattr(request.state, "work", None),
    )


def json_response(
    content: object, engine: Engine, answer: Answer, headers: Mapping[str, str] | None = None
) -> Response:
    """The body, straight from numpy; headers say which model answered."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    engine.metrics.written(answer.computed_at_s)
    return Response(
        body,
        headers={**answer_headers(engine, answer), **(headers or {})},
        media_type="application/json",
    )


def usage(answer: Answer) -> dict[str, int]:
    tokens = sum(answer.tokens)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def error_entry(index: int, error: EncserveError) -> dict[str, Any]:
    """What stands in a partial answer for a text that failed."""
    return {
        "index": index,
        "error": {"code": error.code, "message": error.message, "param": error.param},
    }


def length_entry(answer: Answer, index: int) -> dict[str, Any]:
    """How much of a text the model has read."""
    return {"truncated": answer.truncated[index], "full_tokens": answer.full_tokens[index]}


def as_list(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def documented_responses(
    examples: Examples | None = None,
    dialect: Dialect = OWN,
    model: type[BaseModel] = ErrorResponse,
) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of a model route by status: its examples, and the errors of all.

    Args:
        model: the shape of the dialect's errors.
    """
    by_status: dict[int | str, dict[str, Any]] = {
        "default": {"model": model, "description": "Any other error"}
    }
    if examples is not None:
        by_status[200] = {"content": {"application/json": {"examples": examples}}}
    for error in _DOCUMENTED:
        status = dialect.status_of(type(error))
        body = dialect.body(type(error), error.code, error.message, error.param, status)
        entry = by_status.setdefault(status, _empty_entry(error, model))
        entry["content"]["application/json"]["examples"][error.code] = {"value": orjson.loads(body)}
    return by_status


def _empty_entry(error: EncserveError, model: type[BaseModel]) -> dict[str, Any]:
    return {
        "model": model,
        "description": error.code.replace("_", " ").capitalize(),
        "content": {"application/json": {"examples": {}}},
    }


def check_token_ids(engine: Engine, engines: EngineRegistry, whose: str | None) -> None:
    """Raise if the caller says that its token ids are of another model than `engine`.

    Raises:
        TokenIdsNotAccepted: foreign ids would be taken for other words.
        UnknownModel: there is no such model.
    """
    if whose is not None and engines.get(whose) is not engine:
        raise TokenIdsNotAccepted(
            f"the token ids are another model's than {engine.name!r}, which is to read them: send "
            "text",
            param="token_ids_of",
        )
