"""httptools' parser, for a server that speaks HTTP/1.1 and nothing else."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import httptools

HEAD_CALLBACKS = ("on_message_begin", "on_url", "on_header", "on_headers_complete")


class Told(Protocol):
    """What is told of requests as they come; `headers` are those of the one under way."""

    headers: list[tuple[bytes, bytes]]

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class PlainParser:
    """A request that asks for another protocol is the one that it also is, with its body.

    httptools ends such a request after its head: the body would be lost, or pass for another
    request, whoever wrote it. Java's client asks for HTTP/2 so with the first request of a
    connection. Another parser goes on with the body as if the head had not asked.
    """

    def __init__(self, told: Told) -> None:
        self._told = told
        for name in (*HEAD_CALLBACKS, "on_body"):
            setattr(self, name, getattr(told, name))
        self._parser = _lenient(self)

    def feed_data(self, data: bytes) -> None:
        """Raises: httptools.HttpParserError."""
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if framing := self._framing():
                    self._parser = self._within_body(framing)
            else:
                return

    def close(self) -> None:
        """Nothing is fed any more; else parser and callbacks would hold each other, and the
        connection, until the garbage collector comes by."""
        del self._parser

    def on_message_complete(self) -> None:
        if not (self._parser.should_upgrade() and self._framing()):
            self._told.on_message_complete()

    def get_method(self) -> bytes:
        method: bytes = self._parser.get_method()
        return method

    def get_http_version(self) -> str:
        version: str = self._parser.get_http_version()
        return version

    def should_keep_alive(self) -> bool:
        return bool(self._parser.should_keep_alive())

    def should_upgrade(self) -> bool:
        """Never: no other protocol is spoken here."""
        return False

    def _framing(self) -> bytes:
        """The headers that say where the body of the request under way ends; empty without one."""
        return b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in self._told.headers
            if name == b"transfer-encoding" or (name == b"content-length" and int(value))
        )

    def _within_body(self, framing: bytes) -> httptools.HttpRequestParser:
        """A parser that has read a head, of which nobody was told, and takes what follows it."""
        is_priming = True

        def unless_priming(call: Callable[..., None]) -> Callable[..., None]:
            def told(*args: Any) -> None:
                if not is_priming:
                    call(*args)

            return told

        heads = {name: unless_priming(getattr(self._told, name)) for name in HEAD_CALLBACKS}
        parser = _lenient(
            SimpleNamespace(
                **heads,
                on_body=self._told.on_body,
                on_message_complete=self.on_message_complete,
            )
        )
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)
        is_priming = False
        return parser


def _lenient(told: object) -> httptools.HttpRequestParser:
    """As uvicorn's: what comes after a request that said to close is nobody's fault yet."""
    parser = httptools.HttpRequestParser(told)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
