"""Counts and times every request at the outermost layer, so that no route can miss or double it."""

import asyncio
import re
import time
from collections.abc import Callable
from uuid import uuid4

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import error_response
from service.errors import ShuttingDown
from service.metrics import Metrics

_PLAIN_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")

# Told of a request that found its model: name, version, outcome, duration.
OnRequest = Callable[[str, str, str, float], None]


class ObserveRequests:
    """Pure ASGI middleware; routes note model and outcome in the request's state."""

    def __init__(self, app: ASGIApp, metrics: Metrics, on_request: OnRequest) -> None:
        self._app = app
        self._metrics = metrics
        self._on_request = on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        status = 0

        request_id = state["request_id"] = _request_id(scope)

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode("ascii")),
                ]
            await send(message)

        started_s = state["started_s"] = time.perf_counter()
        try:
            await self._app(scope, receive, send_noting_status)
        except asyncio.CancelledError:
            # uvicorn cancels what still runs when the grace after SIGTERM is over.
            if not status:
                await _answer_shutting_down(scope, receive, send_noting_status)
        finally:
            unnoted = "ok" if 0 < status < 400 else "internal_error"
            outcome = state.get("outcome", unnoted)
            self._observe(scope, outcome, time.perf_counter() - started_s)

    def _observe(self, scope: Scope, outcome: str, duration_s: float) -> None:
        # A path that matched no route is not a label: anyone could invent thousands.
        endpoint = getattr(scope.get("route"), "path", "other")
        model, version = scope["state"].get("model", ""), scope["state"].get("version", "")
        self._metrics.requests.labels(endpoint, model, version, outcome).inc()
        self._metrics.request_duration.labels(endpoint, model, version).observe(duration_s)
        if model:
            self._on_request(model, version, outcome, duration_s)


def _request_id(scope: Scope) -> str:
    """The caller's, if it can go into a header and a log line as it is; else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _PLAIN_ID.fullmatch(value):
            return str(value, "ascii")
    return uuid4().hex


async def _answer_shutting_down(scope: Scope, receive: Receive, send: Send) -> None:
    error = ShuttingDown("the server is shutting down: send the request again later")
    await error_response(Request(scope), error)(scope, receive, send)
