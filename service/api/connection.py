"""The connection of a request: a stream looks whether it still stands, and cuts it."""

import asyncio

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


def connection_of(scope: Scope) -> asyncio.Transport | None:
    """The connection of a request; None where another server than ours runs the application."""
    transport: asyncio.Transport | None = (
        (scope.get("extensions") or {}).get(EXTENSION, {}).get("transport")
    )
    return transport
