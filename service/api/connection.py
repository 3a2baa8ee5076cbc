"""The connection of a request: a stream looks whether it still stands, and cuts it."""

import asyncio
from collections.abc import Callable
from typing import cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "encserve.connection"


class ConnectionProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also tells the application the connection.

    ASGI says that a caller has left only to those who read on, and cannot end a connection whose
    caller does not read: closing it in order waits until all was read.
    """

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"transport": self.transport}}


class AnswerSide:
    """What an answer may do with its connection: write, and close it when it was the last one.

    The protocol is told of both, where uvicorn would go by it to the transport.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        write: Callable[[bytes], None],
        close: Callable[[], None],
    ) -> None:
        self.is_closing = transport.is_closing
        self.write = write
        self.close = close

    def as_transport(self) -> asyncio.Transport:
        """uvicorn asks for no more of a transport while it answers."""
        return cast(asyncio.Transport, self)


def connection_of(scope: Scope) -> asyncio.Transport | None:
    """The connection of a request; None where another server than ours runs the application."""
    transport: asyncio.Transport | None = (
        (scope.get("extensions") or {}).get(EXTENSION, {}).get("transport")
    )
    return transport
