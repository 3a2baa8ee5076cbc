"""How new connections are taken: many at a time, and no longer than a header may take for TLS."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
import uvloop

# uvloop accepts one connection a turn of the loop from each socket that it watches. Under load a
# turn takes many milliseconds, and the probes of health come over new connections.
ACCEPTED_A_TURN = 16


def listening_sockets(config: uvicorn.Config) -> list[socket.socket]:
    """One socket on the address of `config`, under so many descriptors.

    The process ends with a line in the log if nobody can listen there.
    """
    first = config.bind_socket()
    first.set_inheritable(False)
    return [first, *(first.dup() for _ in range(ACCEPTED_A_TURN - 1))]


class ListeningConfig(uvicorn.Config):
    """uvicorn's, which gives the handshake of TLS a time.

    Args:
        handshake_timeout_s: whoever has not finished it by then is cut off. uvloop waits a minute,
            and until then neither the protocol nor the limit of connections knows of the caller.
    """

    def __init__(self, app: Any, handshake_timeout_s: float, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._handshake_timeout_s = handshake_timeout_s

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        return partial(_Loop, self._handshake_timeout_s)


class _Loop(uvloop.Loop):
    def __init__(self, handshake_timeout_s: float) -> None:
        super().__init__()
        self._handshake_timeout_s = handshake_timeout_s

    async def create_server(self, *args: Any, **options: Any) -> Any:
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = self._handshake_timeout_s
        return await super().create_server(*args, **options)
