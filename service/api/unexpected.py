"""An error that nobody foresaw becomes an answer, and a line in the log without its message."""

import logging
import traceback
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import error_response
from service.errors import EncserveError
from service.logs import log_fields

logger = logging.getLogger(__name__)

# The innermost ones tell where it was; the outer ones are the same for every request.
MOST_FRAMES = 12


class AnswerUnexpected:
    """Pure ASGI middleware.

    Starlette's own for this is the outermost whatever is added: what it answers has no request id
    and counts as none, and it hands the error on to uvicorn, which logs its message. Messages of
    libraries quote what they could not take, that is, a caller's text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_noting_begin(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting_begin)
        except Exception as error:
            _log(error, scope)
            scope["state"]["outcome"] = EncserveError.code
            if begun:
                # uvicorn closes a connection whose answer was not finished: it cannot pass for one.
                return
            answer = EncserveError("an unexpected error; it was logged under the X-Request-ID")
            await error_response(Request(scope), answer)(scope, receive, send)


def _log(error: Exception, scope: Scope) -> None:
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    cause = error.__cause__ or error.__context__
    fields = {
        "id": scope["state"]["request_id"],
        "error": _kind(error),
        **({"cause": _kind(cause)} if cause else {}),
        "at": [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in frames],
    }
    log_fields(logger, logging.ERROR, "unexpected error", fields)


def _kind(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
