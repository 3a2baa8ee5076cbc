"""One table from the error tree to status codes, and the only place that writes error bodies.

Bodies carry a stable code and a sentence, never what the caller sent; the shape is also the one
that OpenAI's clients parse.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service import errors
from service.errors import EncserveError, InvalidField

logger = logging.getLogger(__name__)

# The nearest ancestor in the table counts.
STATUS: dict[type[EncserveError], int] = {
    errors.InvalidRequest: 400,
    errors.UnknownModel: 404,
    errors.BodyTooSlow: 408,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.Overloaded: 429,
    errors.InferenceFailed: 500,
    errors.ShuttingDown: 503,
    errors.DeadlineExceeded: 504,
    EncserveError: 500,
}

# nginx's code for a caller who left; it is counted, nobody receives it.
CLIENT_CLOSED_REQUEST = 499

ROUTER_CODES = {404: "unknown_route", 405: "method_not_allowed"}
ROUTER_MESSAGES = {
    404: "no such route: GET /docs lists them",
    405: "this route does not take that method: GET /docs lists the routes",
}


def status_of(error: type[EncserveError]) -> int:
    """The status of the nearest ancestor in the table."""
    return next(STATUS[cls] for cls in error.__mro__ if cls in STATUS)


def error_body(code: str, message: str, param: str | None, status: int) -> bytes:
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    return orjson.dumps({"error": {"code": code, "message": message, "param": param, "type": kind}})


def error_response(request: Request, error: EncserveError) -> Response:
    """The answer to `request` for `error`, noted for the request's metrics."""
    status = status_of(type(error))
    headers = {}
    if isinstance(error, errors.Overloaded):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return _respond(request, status, error.code, error.message, error.param, headers)


def client_closed_request(request: Request) -> Response:
    request.state.outcome = "cancelled"
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def install_error_handlers(app: FastAPI) -> None:
    """Every error that leaves a route becomes JSON here."""
    app.add_exception_handler(EncserveError, _on_encserve_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected_error)


def _respond(
    request: Request,
    status: int,
    code: str,
    message: str,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    request.state.outcome = code
    body = error_body(code, message, param, status)
    return Response(body, status, headers, media_type="application/json")


async def _on_encserve_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EncserveError)
    return error_response(request, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(request, field_error(error.errors()))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    code = ROUTER_CODES.get(status, "http_error")
    message = ROUTER_MESSAGES.get(status, "the request cannot be answered")
    return _respond(request, status, code, message, headers=dict(error.headers or {}))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return client_closed_request(request)


async def _on_unexpected_error(request: Request, error: Exception) -> Response:
    return _respond(request, 500, "internal_error", "an unexpected error; it was logged")


def field_error(found: Sequence[Any]) -> InvalidField:
    """The first of pydantic's errors in our words; names of unknown fields are not repeated."""
    first = found[0]
    location = [part for part in first["loc"] if part not in ("body", "header")]
    param = ".".join(map(str, location))
    if first["type"] == "missing":
        return InvalidField(f"the field {param!r} is required", param=param)
    message = str(first["msg"])
    return InvalidField(f"{param}: {message[:1].lower()}{message[1:]}", param=param)
