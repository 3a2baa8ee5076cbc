"""Reading a request: bounded, strictly parsed, and given up when its caller is gone."""

import asyncio
from collections.abc import Callable, Coroutine, KeysView
from typing import Any, TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.api.connection import is_whole, watching
from service.api.dialects import OWN, TEI, Dialect
from service.api.errors import client_closed_request, field_error
from service.api.headers import OPENAPI_PARAMETERS, read_headers
from service.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidField,
    InvalidJson,
    TooManyTexts,
    UnsupportedMediaType,
)
from service.settings import Settings

# A caller who sends a large body must keep this pace: 128 kbit/s.
MIN_BODY_BYTES_S = 16 * 1024

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """A route that reads its body by itself; FastAPI documents it.

    orjson refuses NaN, infinity and lone surrogates, where the standard parser accepts all three
    and the answer to them is then a 500. The endpoint gets its body, validated by FastAPI's own
    field, the parts of its path and the request, whose state has the common headers as `call`,
    without the general solving of dependencies that it has none of.

    dialect: how errors are told. urgent: taken whatever the load is.
    """

    dialect: Dialect = OWN
    urgent = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.body_field is not None:
            self.openapi_extra = {"parameters": OPENAPI_PARAMETERS, **(self.openapi_extra or {})}

    def get_route_handler(self) -> Handler:
        if self.body_field is None:
            return super().get_route_handler()
        body_field = self.body_field
        body: Any = body_field.field_info.annotation
        assert issubclass(body, BaseModel)
        known = body.model_fields.keys() if body.model_config.get("extra") == "forbid" else None
        self._refuse_other_parameters()

        async def handle_strictly(request: Request) -> Response:
            if not self.urgent:
                request.app.state.loop_turns.check()
            settings: Settings = request.app.state.settings
            request.state.call = read_headers(request.headers)
            value = await self.read_value(request, settings)
            _check_fields(value, known, settings.max_texts_per_request)
            arguments = {body_field.name: _validated(body_field, value), **request.path_params}
            return await _while_connected(request, self.endpoint(request=request, **arguments))

        return handle_strictly

    async def read_value(self, request: Request, settings: Settings) -> object:
        """The body as parsed JSON."""
        _require_json(request)
        return parse_json(await read_body(request, settings))

    def _refuse_other_parameters(self) -> None:
        declared = self.dependant
        if (
            declared.query_params
            or declared.header_params
            or declared.cookie_params
            or declared.dependencies
            or declared.request_param_name != "request"
        ):
            raise TypeError(f"{self.path} may take a body, parts of its path and `request` only")


class TeiRoute(StrictRoute):
    """A route of text-embeddings-inference's dialect."""

    dialect = TEI


def _validated(field: Any, value: object) -> object:
    """`field` is FastAPI's description of the body."""
    valid, errors = field.validate(value, {}, loc=("body",))
    if errors:
        raise RequestValidationError(errors)
    return valid


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body, never more than `max_body_bytes` of it in memory.

    Raises:
        BodyTooLarge: the declared or the received length is over the limit.
        BodyTooSlow: it was not there after `body_timeout_s` and a second for each
            `MIN_BODY_BYTES_S` that came, or after `request_timeout_s`.
    """
    max_body_bytes, loop = settings.max_body_bytes, asyncio.get_running_loop()
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_body_bytes:
        raise body_too_large(max_body_bytes)
    if is_whole(request.scope):
        # Nothing to wait for, so no deadline to set: that is what most of reading costs.
        whole = b"".join([chunk async for chunk in request.stream()])
        if len(whole) > max_body_bytes:
            raise body_too_large(max_body_bytes)
        return whole
    body = bytearray()
    started_s = loop.time()

    def due_s() -> float:
        allowed_s = settings.body_timeout_s + len(body) / MIN_BODY_BYTES_S
        return started_s + min(allowed_s, settings.request_timeout_s)

    try:
        async with asyncio.timeout_at(due_s()) as deadline:
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_body_bytes:
                    raise body_too_large(max_body_bytes)
                deadline.reschedule(due_s())
    except TimeoutError:
        raise BodyTooSlow(
            f"the body did not arrive within {due_s() - started_s:.3g} s: send it faster, or raise "
            "ENCSERVE_BODY_TIMEOUT_S and ENCSERVE_REQUEST_TIMEOUT_S"
        ) from None
    return bytes(body)


def parse_json(body: bytes) -> object:
    """Strict JSON.

    Raises:
        InvalidJson: not UTF-8 JSON, or it holds NaN, infinity or a lone surrogate.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The library's message may quote the body; its position does not.
        raise InvalidJson(
            f"the body is not valid JSON (character {error.pos}): it must be UTF-8, without NaN, "
            "infinity or lone surrogates"
        ) from None


def _check_fields(value: object, known: KeysView[str] | None, max_texts: int) -> None:
    """Refuse at once what would take pydantic seconds to refuse, item by item.

    Args:
        known: the fields that the route takes; None where it passes over others.
    """
    if not isinstance(value, dict):
        raise InvalidField("the body must be a JSON object")
    if known is not None and not value.keys() <= known:
        raise InvalidField("an unknown field: GET /docs shows those that the route takes")
    for texts in value.values():
        # A list of numbers is one text, as token ids.
        if isinstance(texts, list) and len(texts) > max_texts and not isinstance(texts[0], int):
            raise TooManyTexts(len(texts), max_texts)


BodyT = TypeVar("BodyT", bound=BaseModel)


def parsed(model: type[BodyT], fields: object) -> BodyT:
    """`fields` as a body of another shape than the route's own.

    Raises:
        InvalidField: they are none.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        raise field_error(found) from None


def body_too_large(max_body_bytes: int) -> BodyTooLarge:
    """The error that names the limit."""
    return BodyTooLarge(
        f"the body is larger than {max_body_bytes} bytes: send fewer texts at a time, "
        "or raise ENCSERVE_MAX_BODY_BYTES"
    )


def _require_json(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("compressed bodies are not read: send the JSON as it is")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("send the header 'Content-Type: application/json'")


async def _while_connected(request: Request, handling: Coroutine[Any, Any, Response]) -> Response:
    """The handler's response; if the caller leaves first, the handler is cancelled."""
    task = asyncio.current_task()
    assert task
    has_left = False

    def cancel() -> None:
        nonlocal has_left
        has_left = True
        task.cancel()

    # ASGI's own way to hear of it is a task for each request, which waits for nothing as a rule.
    with watching(request.scope, cancel):
        try:
            return await handling
        except asyncio.CancelledError:
            # The end of the grace after SIGTERM cancels, too; that is not the caller's doing.
            if not has_left or task.uncancel():
                raise
            return client_closed_request(request)
