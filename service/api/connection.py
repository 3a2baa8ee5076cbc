"""The connection of a request: a stream looks whether it still stands, and cuts it."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "encserve.connection"
# Of the system: on, for 0 seconds.
NO_LINGERING = struct.pack("ii", 1, 0)
# A process that was stopped, or had long turns, finds its timers due before it looks at its
# sockets: a deadline that has passed leaves it so long to read what is there.
READ_FIRST_S = 0.01


class ConnectionProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also tells the application the connection, and whether a body is
    there.

    ASGI says that a caller has left only to those who read on, and cannot end a connection whose
    caller does not read: closing it in order waits until all was read.
    """

    _in_message = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watchers: set[Callable[[], None]] = set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for tell in tuple(self._watchers):
            tell()

    def timeout_keep_alive_handler(self) -> None:
        """Close it, if no request lies there by now, which uvicorn would reset."""
        close = super().timeout_keep_alive_handler
        self.timeout_keep_alive_task = self.loop.call_later(READ_FIRST_S, close)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        told: dict[object, object] = {
            "transport": self.transport,
            "is_whole": self._is_whole,
            "watchers": self._watchers,
        }
        self.scope["extensions"] = {EXTENSION: told}

    def on_headers_complete(self) -> None:
        self._in_message = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def _is_whole(self) -> bool:
        """Every request that has begun is there to its last byte."""
        return not self._in_message


def reset(transport: asyncio.Transport) -> None:
    """End it at once, for the system too, which would keep what is unread for minutes more."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGERING)
    transport.abort()


def is_whole(scope: Scope) -> bool:
    """The body of a request is known to be there; False where that cannot be told."""
    told: Callable[[], bool] | None = _extension_of(scope).get("is_whole")
    return told is not None and told()


@contextmanager
def watching(scope: Scope, left: Callable[[], None]) -> Iterator[None]:
    """`left` is called if the caller leaves during the block, where our server runs."""
    watchers: set[Callable[[], None]] = _extension_of(scope).get("watchers", set())
    watchers.add(left)
    try:
        yield
    finally:
        watchers.discard(left)


def connection_of(scope: Scope) -> asyncio.Transport | None:
    """The connection of a request; None where another server than ours runs the application."""
    transport: asyncio.Transport | None = _extension_of(scope).get("transport")
    return transport


def _extension_of(scope: Scope) -> dict[str, Any]:
    found: dict[str, Any] = (scope.get("extensions") or {}).get(EXTENSION, {})
    return found
