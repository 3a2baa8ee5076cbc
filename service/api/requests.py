"""Reading a request: bounded, strictly parsed, and given up when its caller is gone."""

import asyncio
from collections.abc import Callable, Coroutine, KeysView
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from service.api.errors import client_closed_request
from service.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidField,
    InvalidJson,
    TooManyTexts,
    UnsupportedMediaType,
)
from service.settings import Settings

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """A route that reads its body by itself; FastAPI documents it.

    orjson refuses NaN, infinity and lone surrogates, where the standard parser accepts all three
    and the answer to them is then a 500. The endpoint gets its body and headers, validated by
    FastAPI's own fields, without the general solving of dependencies that it has none of.
    """

    def get_route_handler(self) -> Handler:
        if self.body_field is None:
            return super().get_route_handler()
        body_field, header_fields = self.body_field, self.dependant.header_params
        known = body_field.field_info.annotation.model_fields.keys()  # type: ignore[union-attr]  # every body of ours is a model
        self._refuse_other_parameters()

        async def handle_strictly(request: Request) -> Response:
            settings: Settings = request.app.state.settings
            _require_json(request)
            value = parse_json(await read_body(request, settings))
            _check_size(value, known, settings.max_texts_per_request)
            arguments = {
                field.name: _validated(field, request.headers.get(field.alias), "header")
                for field in header_fields
                if field.alias in request.headers
            }
            arguments[body_field.name] = _validated(body_field, value, "body")
            return await _while_connected(request, self.endpoint(request=request, **arguments))

        return handle_strictly

    def _refuse_other_parameters(self) -> None:
        declared = self.dependant
        if (
            declared.path_params
            or declared.query_params
            or declared.cookie_params
            or declared.dependencies
            or declared.request_param_name != "request"
        ):
            raise TypeError(f"{self.path} may take a body, headers and `request` only")


def _validated(field: Any, value: object, place: str) -> object:
    """`field` is FastAPI's description of a parameter."""
    location = (place,) if place == "body" else (place, field.alias)
    valid, errors = field.validate(value, {}, loc=location)
    if errors:
        raise RequestValidationError(errors)
    return valid


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body, never more than `max_body_bytes` of it in memory.

    Raises:
        BodyTooLarge: the declared or the received length is over the limit.
        BodyTooSlow: it was not there after `request_timeout_s`.
    """
    max_body_bytes, timeout_s = settings.max_body_bytes, settings.request_timeout_s
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_body_bytes:
        raise _too_large(max_body_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_body_bytes:
                    raise _too_large(max_body_bytes)
    except TimeoutError:
        raise BodyTooSlow(
            f"the body did not arrive within {timeout_s:g} s: send it faster, or raise "
            "ENCSERVE_REQUEST_TIMEOUT_S"
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


def _check_size(value: object, fields: KeysView[str], max_texts: int) -> None:
    """Refuse at once what would take pydantic seconds to refuse, item by item."""
    if not isinstance(value, dict):
        raise InvalidField("the body must be a JSON object")
    if not value.keys() <= fields:
        raise InvalidField("an unknown field: GET /docs shows those that the route takes")
    texts = value.get("input")
    if isinstance(texts, list) and len(texts) > max_texts:
        raise TooManyTexts(len(texts), max_texts)


def _too_large(max_body_bytes: int) -> BodyTooLarge:
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
    handled = False

    def cancel_if_left(left: asyncio.Task[None]) -> None:
        if not (handled or left.cancelled()):
            task.cancel()

    left = asyncio.ensure_future(_disconnected(request))
    left.add_done_callback(cancel_if_left)
    try:
        return await handling
    except asyncio.CancelledError:
        # The end of the grace after SIGTERM cancels, too; that is not the caller's doing.
        if not left.done() or task.uncancel():
            raise
        return client_closed_request(request)
    finally:
        handled = True
        left.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
