"""Counts and times every request at the outermost layer, so that no route can miss or double it."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors
from service.api.dialects import OWN
from service.api.errors import error_response
from service.api.probes import PROBES
from service.api.reports import Ended, end_trace, log_request, logged
from service.errors import EncserveError, Overloaded, ShuttingDown
from service.metrics import Metrics
from service.request_metrics import Fault
from service.tracing import TRACE_RESPONSE, RequestTrace, Tracing
from service.work import Work

ID_BYTES = 16
IDS_AT_ONCE = 256
_PLAIN_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")

# Codes that are not the caller's doing: what the own dialect calls so, and a queue that is full.
SERVER_FAULTS = frozenset(
    error.code
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, EncserveError) and OWN.status_of(error) >= 500
) | {Overloaded.code}

# Told of a request that found its model: name, version, outcome, duration.
OnRequest = Callable[[str, str, str, float], None]


class ObserveRequests:
    """Pure ASGI middleware; routes note model and outcome in the request's state.

    `trace_id` of the state, if there is one, becomes the exemplar of the request's duration;
    `read_s` and `write_s` are put there for whoever comes after. `work` is there for the engine to
    fill if the request is to be logged or traced.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        on_request: OnRequest,
        tracing: Tracing | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics.request
        self._on_request = on_request
        self._tracing = tracing
        self._new_ids = _new_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        status = 0
        read_at_s = write_from_s = 0.0

        request_id = state["request_id"] = _sent_id(scope) or next(self._new_ids)
        told = [(b"x-request-id", request_id.encode("ascii"))]
        trace = self._trace(scope)
        if trace is not None:
            told.append((TRACE_RESPONSE, trace.response))

        async def receive_noting_end() -> Message:
            nonlocal read_at_s
            message = await receive()
            if not read_at_s and not message.get("more_body"):
                read_at_s = time.perf_counter()
            return message

        async def send_noting_status(message: Message) -> None:
            nonlocal status, write_from_s
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *told]
                write_from_s = time.perf_counter()
            await send(message)

        started_s = state["started_s"] = time.perf_counter()
        try:
            await self._app(scope, receive_noting_end, send_noting_status)
        except asyncio.CancelledError:
            # uvicorn cancels what still runs when the grace after SIGTERM is over.
            if not status:
                await _answer_shutting_down(scope, receive, send_noting_status)
        finally:
            ended_s = time.perf_counter()
            unnoted = "ok" if 0 < status < 400 else "internal_error"
            outcome = state.setdefault("outcome", unnoted)
            state["read_s"] = max(0.0, read_at_s - started_s)
            state["write_s"] = ended_s - write_from_s if write_from_s else 0.0
            # A path that matched no route is not a label: anyone could invent thousands.
            endpoint = getattr(scope.get("route"), "path", "other")
            self._observe(scope, endpoint, outcome, ended_s - started_s)
            times_s = (started_s, read_at_s, write_from_s, ended_s)
            ended = Ended(scope["method"], endpoint, status, outcome, *times_s)
            log_request(ended, scope["path"], state)
            if trace is not None:
                end_trace(trace, ended, state)

    def _trace(self, scope: Scope) -> RequestTrace | None:
        """The trace of a request that begins; its state says where the engine notes its work."""
        trace, state = None, scope["state"]
        if self._tracing is not None and scope["path"] not in PROBES:
            trace = self._tracing.start(scope["method"], scope["headers"])
        if trace is not None and trace.sampled:
            state["trace_id"] = trace.trace_id
            state["work"] = Work(trace.span)
        elif logged(scope["path"]):
            state["work"] = Work()
        return trace

    def _observe(self, scope: Scope, endpoint: str, outcome: str, duration_s: float) -> None:
        state = scope["state"]
        model, version = state.get("model", ""), state.get("version", "")
        fault = _fault(scope["method"], model, outcome)
        self._metrics.ended(endpoint, model, version, outcome, fault)
        if not model:
            return
        self._metrics.transferred(model, version, state["read_s"], state["write_s"])
        if outcome == "ok":
            self._metrics.answered(endpoint, model, version, duration_s, state.get("trace_id"))
        self._on_request(model, version, outcome, duration_s)


def _fault(method: str, model: str, outcome: str) -> Fault | None:
    """Whose fault it was, of requests for answers.

    Without a model only a defect of ours is one, and that nobody had time to see which was meant.
    """
    if not model:
        ours = outcome in (EncserveError.code, Overloaded.code)
        return "server" if method == "POST" and ours else None
    if outcome == "ok":
        return "none"
    return "server" if outcome in SERVER_FAULTS else "caller"


def _sent_id(scope: Scope) -> str | None:
    """The caller's, if it can go into a header and a log line as it is."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _PLAIN_ID.fullmatch(value):
            return str(value, "ascii")
    return None


def _new_ids() -> Iterator[str]:
    """Ids that cannot be guessed, as feedback is taken for whoever knows one.

    Many at once: bytes from the system cost a call.
    """
    while True:
        drawn = os.urandom(IDS_AT_ONCE * ID_BYTES).hex()
        for start in range(0, len(drawn), 2 * ID_BYTES):
            yield drawn[start : start + 2 * ID_BYTES]


async def _answer_shutting_down(scope: Scope, receive: Receive, send: Send) -> None:
    error = ShuttingDown("the server is shutting down: send the request again later")
    await error_response(Request(scope), error)(scope, receive, send)
