"""A stream that is read only as fast as its answers are written, so that nothing piles up."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.bulk_lines import Line, LineSplitter, portions
from service.api.bulk_room import Room
from service.api.connection import connection_of
from service.api.headers import engine_headers
from service.api.routing import error_entry
from service.engine import Engine
from service.errors import (
    BodyTooSlow,
    DeadlineExceeded,
    EncserveError,
    Overloaded,
    RateLimited,
    ShuttingDown,
    TooManyTokens,
)
from service.inputs import Input
from service.registry import EngineRegistry
from service.settings import Settings

Answering = Callable[[list[Input]], Awaitable[tuple[list[dict[str, object]], list[int]]]]

PORTIONS_IN_FLIGHT = 4
# How often a stream that waits looks whether the server wants to stop.
LOOK_S = 0.25
RETRY_S = 0.5
# A caller that reads this much in time is not standing still.
WRITE_BYTES = 64 * 1024


class _Left(Exception):
    """The caller is gone."""


class BulkStream(Response):
    """The answer to a bulk request, which reads the request itself.

    While answers are being written, the body's next part waits in the socket: a caller that does
    not read is not read from.
    """

    media_type = "application/x-ndjson"

    def __init__(
        self,
        engine: Engine,
        answering: Answering,
        room: Room,
        engines: EngineRegistry,
        settings: Settings,
    ) -> None:
        super().__init__(headers=engine_headers(engine), media_type=self.media_type)
        del self.headers["content-length"]
        self._engine = engine
        self._answering = answering
        self._room = room
        self._engines = engines
        self._max_lines = settings.max_texts_per_request
        self._connection: asyncio.Transport | None = None
        self._idle_timeout_s = settings.bulk_idle_timeout_s
        self._splitter = LineSplitter(settings.max_bulk_line_bytes)
        # One part of the body waits here while another is being worked on.
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self._pending: deque[asyncio.Task[bytes]] = deque()
        self._written = 0
        self._failed = 0
        self._tokens = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._connection = connection_of(scope)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        work = asyncio.current_task()
        assert work
        reader = asyncio.create_task(self._read(receive))
        left = False

        def leave(done: asyncio.Task[None]) -> None:
            nonlocal left
            if not done.cancelled() and isinstance(done.exception(), _Left):
                left = True
                work.cancel()

        reader.add_done_callback(leave)
        try:
            await self._stream(send)
        except asyncio.CancelledError:
            scope["state"]["outcome"] = "cancelled"
            if not left or work.uncancel():
                raise
        except _Left:
            scope["state"]["outcome"] = "cancelled"
            reader.remove_done_callback(leave)
            reader.cancel()
            if self._connection is not None:
                await _until_gone(receive)
        finally:
            reader.remove_done_callback(leave)
            reader.cancel()
            for task in self._pending:
                task.cancel()
            # Their texts are out of the queue before the request is over, and counted.
            await asyncio.gather(*self._pending, return_exceptions=True)
            if (noted := scope["state"].get("work")) is not None:
                noted.texts, noted.tokens = self._splitter.lines, self._tokens

    async def _read(self, receive: Receive) -> None:
        """The parts of the body, then None; raises once the caller is gone."""
        more = True
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Left
            if more:
                await self._parts.put(message.get("body", b""))
                more = message.get("more_body", False)
                if not more:
                    await self._parts.put(None)

    async def _stream(self, send: Send) -> None:
        end: EncserveError | None = None
        part: bytes | None = b""
        while part is not None and end is None:
            part, end = await self._next_part(send)
            lines = self._splitter.end() if part is None else self._splitter.feed(part)
            for portion in portions(lines, self._max_lines, self._room.portion_tokens):
                while len(self._pending) >= PORTIONS_IN_FLIGHT:
                    await self._write_next(send)
                self._pending.append(asyncio.create_task(self._answered(portion)))
        while self._pending:
            await self._write_next(send)
        await self._send(send, self._summary(end))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next_part(self, send: Send) -> tuple[bytes | None, EncserveError | None]:
        """The next part of the body, None at its end; answers that are ready go out meanwhile.

        A reason to stop comes with an empty part.
        """
        getting = asyncio.create_task(self._parts.get())
        waited_s = 0.0
        try:
            await asyncio.sleep(0)
            while (stop := self._reason_to_stop()) is not None or not getting.done():
                if stop is not None:
                    return b"", stop
                if waited_s >= self._idle_timeout_s:
                    return b"", BodyTooSlow(
                        f"no line came for {self._idle_timeout_s:g} s: send faster, or raise "
                        "ENCSERVE_BULK_IDLE_TIMEOUT_S"
                    )
                waiting = {getting, *list(self._pending)[:1]}
                done, _ = await asyncio.wait(
                    waiting, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                if self._pending and self._pending[0].done():
                    await self._write_next(send)
                waited_s = 0.0 if done or self._pending else waited_s + LOOK_S
            return getting.result(), None
        finally:
            getting.cancel()

    def _reason_to_stop(self) -> EncserveError | None:
        """Lines that were taken are still answered; the caller sends the rest again."""
        if self._engines.draining:
            return ShuttingDown("the server is shutting down: send the rest again")
        if not self._engines.holds(self._engine):
            # Going on with it would mix vectors of two versions.
            return ShuttingDown("another version of the model serves now: send the rest again")
        return None

    async def _answered(self, portion: list[Line]) -> bytes:
        """The lines that answer `portion`, however long the queue is full."""
        sound = [line for line in portion if line.error is None]
        entries, tokens = await self._asked(sound) if sound else ([], [])
        answers = iter(entries)
        written = [
            self._entry(line, next(answers) if line.error is None else None) for line in portion
        ]
        self._tokens += sum(tokens)
        return b"".join(written)

    async def _asked(self, lines: list[Line]) -> tuple[list[dict[str, object]], list[int]]:
        texts: list[Input] = [line.text for line in lines]
        while True:
            try:
                # While it waits to ask again, the room is others'.
                async with self._room.hold(sum(line.tokens for line in lines)):
                    return await self._answering(texts)
            except RateLimited as error:
                await self._until_allowed(error.retry_after_s)
            except Overloaded as error:
                await asyncio.sleep(min(error.retry_after_s, RETRY_S))
            except DeadlineExceeded:
                continue
            except TooManyTokens as error:
                if len(lines) == 1:
                    return [error_entry(0, error)], [0]
                middle = len(lines) // 2
                first, second = await self._asked(lines[:middle]), await self._asked(lines[middle:])
                return first[0] + second[0], first[1] + second[1]
            except EncserveError as error:
                entries = [error_entry(index, error) for index in range(len(lines))]
                return entries, [0] * len(lines)

    async def _until_allowed(self, seconds: float) -> None:
        """The key's tokens come back at their own pace: asking sooner is refused again.

        A server that stops gives no time for that.
        """
        while seconds > 0 and not self._engines.draining:
            await asyncio.sleep(min(LOOK_S, seconds))
            seconds -= LOOK_S
        if self._engines.draining:
            await asyncio.sleep(RETRY_S)

    def _entry(self, line: Line, entry: dict[str, Any] | None) -> bytes:
        if line.error is not None:
            entry = error_entry(0, line.error)
        assert entry is not None
        if entry.get("error"):
            self._failed += 1
            entry["error"] = entry["error"] | {"param": "line" if line.error else "input"}
        content = {"index": line.index, "id": line.key} | entry | {"index": line.index}
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)

    async def _write_next(self, send: Send) -> None:
        await self._send(send, await self._pending.popleft())

    async def _send(self, send: Send, body: bytes) -> None:
        """Write in pieces, each within the time without progress.

        Raises:
            _Left: the caller is gone, or does not read and was cut off.
        """
        for start in range(0, len(body), WRITE_BYTES):
            if self._connection is not None and self._connection.is_closing():
                raise _Left
            piece = body[start : start + WRITE_BYTES]
            try:
                async with asyncio.timeout(self._idle_timeout_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError:
                # Closing in order would wait for a reader, and keep the socket for ever.
                if self._connection is not None:
                    self._connection.abort()
                raise _Left from None

    def _summary(self, end: EncserveError | None) -> bytes:
        summary: dict[str, object] = {
            "object": "bulk.summary",
            "lines": self._splitter.lines,
            "failed": self._failed,
            "tokens": self._tokens,
        }
        if end is not None:
            summary["error"] = {"code": end.code, "message": end.message, "param": None}
        return orjson.dumps(summary, option=orjson.OPT_APPEND_NEWLINE)


async def _until_gone(receive: Receive) -> None:
    """uvicorn takes an answer without an end for a fault until it sees the closed connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
