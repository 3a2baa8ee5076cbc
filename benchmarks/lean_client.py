"""An HTTP/1.1 client that costs next to nothing: requests as bytes, one answer at a time.

It shares the cores with the server it measures, so it parses no more than status and length.
"""

import asyncio
import re
from typing import NamedTuple, Self, cast

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
END_OF_HEAD = b"\r\n\r\n"


class Answer(NamedTuple):
    """Status, and head and body as they came."""

    status: int
    head: bytes
    body: bytes

    @property
    def retry_after_s(self) -> float:
        found = _RETRY_AFTER.search(self.head)
        return float(found[1]) if found else 1.0


class Connection(asyncio.Protocol):
    """A connection that is kept alive; `ask` again only after the answer has come."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._body_at = 0
        self._ends_at = 0
        self._answer: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        host, _, port = url.removeprefix("http://").rpartition(":")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, host, int(port))
        return connection

    @property
    def closed(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()

    async def ask(self, *parts: bytes) -> Answer:
        """Send a whole request, its parts in writes of their own; the whole answer.

        Raises:
            ConnectionError: the server hung up, or answered without a length.
        """
        if self.closed:
            raise ConnectionError("the server has closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        for part in parts:
            self._transport.write(part)
            if part is not parts[-1]:
                await asyncio.sleep(0)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._body_at:
            self._read_head()
        if self._body_at and len(self._received) >= self._ends_at:
            self._deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the server closed the connection before it answered")

    def _read_head(self) -> None:
        end = self._received.find(END_OF_HEAD)
        if end < 0:
            return
        length = _CONTENT_LENGTH.search(self._received, 0, end)
        if length is None:
            self._fail("the answer has no content-length")
            self.close()
            return
        self._body_at = end + len(END_OF_HEAD)
        self._ends_at = self._body_at + int(length[1])

    def _deliver(self) -> None:
        whole, body_at = bytes(self._received), self._body_at
        self._received.clear()
        self._body_at = 0
        if self._answer and not self._answer.done():
            # The status stands behind "HTTP/1.1 ".
            self._answer.set_result(Answer(int(whole[9:12]), whole[:body_at], whole[body_at:]))

    def _fail(self, reason: str) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError(reason))


def post_bytes(path: str, body: bytes) -> bytes:
    """A whole JSON request to a server on this machine."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask_once(url: str, request: bytes) -> Answer:
    """One answer over a connection of its own."""
    connection = await Connection.open(url)
    try:
        return await connection.ask(request)
    finally:
        connection.close()
