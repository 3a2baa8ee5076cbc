"""The edge below the application: bounds, deadlines and errors of a connection.

Everything that happens before a request is whole, or after its answer is written, happens here:
no middleware is asked then, and uvicorn itself waits for ever.
"""

import asyncio
import math
from typing import Any, ClassVar

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from service.api.answer_side import AnswerSide
from service.api.connection import READ_FIRST_S, ConnectionProtocol, reset
from service.api.parser import PlainParser
from service.api.probes import PROBES
from service.api.read_pace import ReadPace
from service.api.refusals import Limits, invalid_http, limits_of, written
from service.errors import EncserveError
from service.metrics import Metrics
from service.settings import Settings

# Open beyond the limit for those who ask how the server is; nobody else is answered on them.
SPARE_CONNECTIONS = 32
PROBED = frozenset(path.encode("ascii") for path in PROBES)
READER_TOO_SLOW = "reader_too_slow"
# What still comes after the last answer is thrown away for so long: closed at once, the connection
# would be reset, and the answer lost. Also the time for a body whose request is answered already.
LINGER_S = 2.0
LOOK_S = 0.5


class StrictProtocol(ConnectionProtocol):
    """A connection that no caller can hold by being slow, nor fill by being endless.

    A header, from its first byte (the first one from the connection on), has `header_timeout_s`
    and `max_header_bytes`; so has whatever else the application never sees, such as trailers. An
    answer that waits must be read at the pace of `ReadPace`, over each `write_timeout_s`. The body
    is the route's own affair: only that knows whether it is itself what is slow.
    """

    limits: ClassVar[Limits]
    metrics: ClassVar[Metrics]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = self._plain_parser = PlainParser(self)  # type: ignore[assignment]
        self._is_spare = False
        self._is_deaf = False
        self._is_ending = False
        self._in_header = False
        self._header_bytes = 0
        # Bytes since the last of which the application was told.
        self._untold_bytes = 0
        self._header_since_s: float | None = None
        self._running: RequestResponseCycle | None = None
        self._message_since_s = 0.0
        self._unwanted_since_s: float | None = None
        self._linger_since_s: float | None = None
        self._pace = ReadPace(self.limits.write_timeout_s)
        self._refusal: EncserveError | None = None
        self._look_later: asyncio.TimerHandle | None = None
        self._look_due_s = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.metrics.connections.inc()
        self._header_since_s = self.loop.time()
        self._answer_side = AnswerSide(transport, self._write, self._close_after_answer)
        self._is_spare = len(self.connections) > self.limits.max_connections
        if len(self.connections) > self.limits.max_connections + SPARE_CONNECTIONS:
            self._refuse(self.limits.too_many_connections())
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self.metrics.connections.dec()
        self._plain_parser.close()
        if self._look_later is not None:
            self._look_later.cancel()
        # uvicorn tells only the newest of several requests that its caller has left.
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        if self._header_since_s is None and not self._in_message:
            self._header_since_s = self.loop.time()
        self._untold_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal or invalid_http())
            return
        if self._in_header and self._header_since_s is None:
            self._header_since_s = self.loop.time()
        if self._untold_bytes > self.limits.max_header_bytes:
            self._refuse(self.limits.header_too_large())

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_header = True
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value))
        if self._in_header:
            # After the body it is a trailer, which must not pass for part of the header.
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_spare and self.url.partition(b"?")[0] not in PROBED:
            self._refuse_in_parser(self.limits.too_many_connections())
        super().on_headers_complete()
        self._in_header = False
        self._header_since_s = None
        self._message_since_s = self.loop.time()
        self._untold_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._untold_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._untold_bytes = 0
        if self._unwanted_since_s is not None:
            self._unwanted_since_s, self._header_since_s = None, self.loop.time()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        cycle.transport = self._answer_side.begin()
        super()._start_asgi_task(cycle, app)

    def _count_header(self, added_bytes: int) -> None:
        self._header_bytes += added_bytes
        if self._header_bytes > self.limits.max_header_bytes:
            self._refuse_in_parser(self.limits.header_too_large())

    def _refuse_in_parser(self, refusal: EncserveError) -> None:
        """The parser stops at an exception, and `data_received` then refuses."""
        self._refusal = refusal
        raise refusal

    # Callbacks of the answer and its transport

    def _write(self, data: bytes) -> None:
        self._pace.written += len(data)
        self.transport.write(data)

    def _close_after_answer(self) -> None:
        """It was the last one of this connection."""
        if self._in_message:
            # The rest of the body is still under way.
            self._linger()
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        self._answer_side.flush()
        if self._linger_since_s is not None:
            self.server_state.total_requests += 1
            return
        is_last = not self.pipeline
        super().on_response_complete()
        if self._is_ending and is_last and not self.transport.is_closing():
            self._linger()
        elif self._in_message and self.cycle.response_complete and not self.transport.is_closing():
            # Answered before its body was there: nobody wants the rest, which may be under way, or
            # has been for long.
            self._unwanted_since_s = self._message_since_s
            if self.loop.time() >= self._message_since_s + LINGER_S:
                self._linger()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pace.wait(self.loop.time(), self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._pace.end()

    # Deadlines

    def _look(self) -> None:
        """Is anything overdue? One timer a connection, so that a request sets none."""
        now_s = self.loop.time()
        if now_s > self._look_due_s + LOOK_S:
            self._pace.end()
            self._look_due_s = math.inf
            self._look_later = self.loop.call_later(READ_FIRST_S, self._look)
            return
        due_s = now_s + LOOK_S
        if self._linger_since_s is not None:
            due_s = self._linger_since_s + LINGER_S
            if now_s >= due_s:
                self.transport.abort()
                return
        elif self._unwanted_since_s is not None:
            due_s = self._unwanted_since_s + LINGER_S
            if now_s >= due_s:
                self._linger()
        elif self._header_since_s is not None and not self._is_deaf:
            due_s = self._header_since_s + self.limits.header_timeout_s
            if now_s >= due_s:
                self._give_up_header()
        if self._pace.is_too_slow(now_s, self.transport.get_write_buffer_size()):
            self._cut_off()
            return
        wait_s = min(LOOK_S, max(0.01, min(due_s, self._pace.due_s) - now_s))
        self._look_due_s = now_s + wait_s
        self._look_later = self.loop.call_later(wait_s, self._look)

    def _give_up_header(self) -> None:
        self._header_since_s = None
        if not self._in_header:
            # Nothing more was asked, so there is nothing to answer.
            self._is_deaf = True
            if self._earlier_under_way():
                self._is_ending = True
            else:
                self.transport.close()
            return
        self._refuse(self.limits.header_too_slow())

    def _cut_off(self) -> None:
        """Its caller does not read."""
        self.metrics.refused_connections.labels(READER_TOO_SLOW).inc()
        reset(self.transport)

    # Refusals

    def _refuse(self, refusal: EncserveError) -> None:
        """Say why, once, and take nothing more from this connection."""
        self._is_deaf = True
        self.metrics.refused_connections.labels(refusal.code).inc()
        if self._earlier_under_way():
            self._is_ending = True
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.abort()
                return
            cycle.waiting_for_100_continue = False
            cycle.disconnected = True
            cycle.message_event.set()
        self._write(written(refusal))
        self._linger()

    def _earlier_under_way(self) -> bool:
        """Are there whole requests before the fault? They are answered, as the last ones."""
        if not self._in_message:
            return self.cycle is not None and not self.cycle.response_complete
        if not self.pipeline:
            return False
        # The one at fault waits behind another, and is not to be begun.
        self.pipeline.popleft()
        return True

    def _linger(self) -> None:
        self._is_deaf = True
        self._linger_since_s = self.loop.time()
        self._unset_keepalive_if_required()
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()


def strict_protocol(settings: Settings, metrics: Metrics) -> type[StrictProtocol]:
    """The protocol of a server with these settings, as uvicorn takes it: a class."""

    class Protocol(StrictProtocol):
        limits = limits_of(settings)

    Protocol.metrics = metrics
    return Protocol
