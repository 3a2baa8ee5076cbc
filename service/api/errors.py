"""Every foreseen error becomes an answer here, in the words of the route's dialect."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service import errors
from service.api.dialects import OIP, OWN, Dialect
from service.errors import EncserveError, InvalidField

logger = logging.getLogger(__name__)

OIP_PATHS = ("/v2/models", "/v2/health", "/v2/repository")

# nginx's code for a caller who left; it is counted, nobody receives it.
CLIENT_CLOSED_REQUEST = 499

ROUTER_CODES = {404: "unknown_route", 405: "method_not_allowed"}
ROUTER_MESSAGES = {
    404: "no such route: GET /docs lists them",
    405: "this route does not take that method: GET /docs lists the routes",
}


def dialect_of(request: Request) -> Dialect:
    """The dialect of the route; of a path that is none, of those below it."""
    dialect: Dialect | None = getattr(request.scope.get("route"), "dialect", None)
    if dialect is not None:
        return dialect
    path: str = request.scope["path"]
    return OIP if path.startswith(OIP_PATHS) else OWN


def error_response(request: Request, error: EncserveError) -> Response:
    """The answer to `request` for `error`, noted for the request's metrics."""
    headers = {}
    if isinstance(error, errors.Overloaded):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.VersionMismatch):
        # OpenAI's clients repeat a request after a 409, and would be refused again.
        headers["x-should-retry"] = "false"
    status = dialect_of(request).status_of(type(error))
    return _respond(request, status, type(error), error.code, error.message, error.param, headers)


def client_closed_request(request: Request) -> Response:
    request.state.outcome = "cancelled"
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def install_error_handlers(app: FastAPI) -> None:
    """What leaves a route as an error that is known becomes JSON here."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer_to(request, error)

    for kind in _ANSWERS:
        app.add_exception_handler(kind, handle)


def answer_to(request: Request, error: Exception) -> Response:
    """The answer to `request`, which ended in `error`; raises it if it is none that is known."""
    for kind in type(error).__mro__:
        if kind in _ANSWERS:
            return _ANSWERS[kind](request, error)
    raise error


def _respond(
    request: Request,
    status: int,
    error: type[EncserveError],
    code: str,
    message: str,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    request.state.outcome = code
    body = dialect_of(request).body(error, code, message, param, status)
    return Response(body, status, headers, media_type="application/json")


def _on_encserve_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EncserveError)
    return error_response(request, error)


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(request, field_error(error.errors()))


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    code = ROUTER_CODES.get(status, "http_error")
    message = ROUTER_MESSAGES.get(status, "the request cannot be answered")
    headers = dict(error.headers or {})
    return _respond(request, status, EncserveError, code, message, headers=headers)


def _on_disconnect(request: Request, error: Exception) -> Response:
    return client_closed_request(request)


_ANSWERS: dict[type, Callable[[Request, Exception], Response]] = {
    EncserveError: _on_encserve_error,
    RequestValidationError: _on_validation_error,
    HTTPException: _on_http_exception,
    ClientDisconnect: _on_disconnect,
}


def field_error(found: Sequence[Any]) -> InvalidField:
    """The first of pydantic's errors in our words; names of unknown fields are not repeated."""
    first = found[0]
    location = [part for part in first["loc"] if part not in ("body", "header")]
    if first["type"] == "extra_forbidden":
        message = "an unknown field: GET /docs shows those that the route takes"
        return InvalidField(message, param=".".join(map(str, location[:-1])) or None)
    param = ".".join(map(str, location))
    if first["type"] == "missing":
        return InvalidField(f"the field {param!r} is required", param=param)
    message = str(first["msg"])
    return InvalidField(f"{param}: {message[:1].lower()}{message[1:]}", param=param)
