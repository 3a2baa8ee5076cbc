"""What an answer may do with its connection: write, and close it when it was the last one."""

import asyncio
from collections.abc import Callable
from typing import cast


class AnswerSide:
    """The head of an answer and what comes next are written at once.

    uvicorn writes them one after the other, and uvloop each as it comes: two calls of the system
    and two packets that wake the caller, who has half an answer if the process dies between them.

    The protocol is told of what is written and of the end, where uvicorn would go by it to the
    transport.

    Args:
        write: hands bytes to the transport.
        close: ends the connection.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        write: Callable[[bytes], None],
        close: Callable[[], None],
    ) -> None:
        self.is_closing = transport.is_closing
        self._loop = asyncio.get_running_loop()
        self._write = write
        self._close = close
        self._head_is_next = False
        self._held = b""

    def begin(self) -> asyncio.Transport:
        """What is written next begins an answer; uvicorn asks for no more of a transport then."""
        self._head_is_next = True
        return cast(asyncio.Transport, self)

    def write(self, data: bytes) -> None:
        if self._head_is_next:
            self._head_is_next = False
            self._held = data
            # A stream may have nothing to say for long.
            self._loop.call_soon(self.flush)
            return
        if self._held:
            data, self._held = self._held + data, b""
        self._write(data)

    def flush(self) -> None:
        """Nothing more waits for what comes next."""
        if self._held:
            held, self._held = self._held, b""
            if not self.is_closing():
                self._write(held)

    def close(self) -> None:
        self.flush()
        self._close()
