"""A request that asks for another protocol is told as if it had not asked, however it comes."""

import gc
import weakref
from dataclasses import dataclass, field
from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.parser import PlainParser

ASKS = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
# A body that would be a request of its own, and one in chunks with a trailer.
BODY = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKS = b"4\r\nabcd\r\n6\r\nGET / \r\n0\r\nx-trailer: 1\r\n\r\n"


def request(path: bytes, framing: bytes = b"", body: bytes = b"", *, asks: bool = False) -> bytes:
    head = b"POST /%b HTTP/1.1\r\nHost: x\r\n%b%b\r\n" % (path, ASKS if asks else b"", framing)
    return head + body


WITH_BODY = (b"sized", b"Content-Length: %d\r\n" % len(BODY), BODY)
IN_CHUNKS = (b"chunks", b"Transfer-Encoding: chunked\r\n", CHUNKS)
EMPTY = (b"empty", b"Content-Length: 0\r\n")
BARE = (b"bare",)


@dataclass
class Request:
    path: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False


class Told:
    """Requests as they were told."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.found: list[Request] = []

    def on_message_begin(self) -> None:
        self.headers = []
        self.found.append(Request(headers=self.headers))

    def on_url(self, url: bytes) -> None:
        self.found[-1].path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert not self.found[-1].body

    def on_body(self, body: bytes) -> None:
        self.found[-1].body += body

    def on_message_complete(self) -> None:
        assert not self.found[-1].ended
        self.found[-1].ended = True


def told(data: bytes, cuts: list[int]) -> list[Request]:
    found = Told()
    parser = PlainParser(found)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        parser.feed_data(data[start:end])
    asked = {name.partition(b":")[0].lower() for name in ASKS.split(b"\r\n")}
    for one in found.found:
        one.headers = [(name, value) for name, value in one.headers if name not in asked]
    return found.found


@given(
    st.lists(st.sampled_from([WITH_BODY, IN_CHUNKS, EMPTY, BARE]), min_size=1, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_requests_are_told_the_same_whatever_protocol_they_ask_for_and_wherever_they_are_cut(
    parts: list[tuple[bytes, ...]], asks: list[bool], cuts: list[int]
) -> None:
    data = [request(*part, asks=one) for part, one in zip(parts, asks, strict=False)]
    plain = [request(*part) for part in parts]
    found = told(b"".join(data), cuts)
    assert found == told(b"".join(plain), [])
    assert [one.path for one in found] == [b"/" + part[0] for part in parts]
    assert all(one.ended for one in found)


def test_body_that_is_not_what_its_head_says_is_refused() -> None:
    parser = PlainParser(Told())
    parser.feed_data(request(b"", b"Transfer-Encoding: chunked\r\n", asks=True))
    with pytest.raises(httptools.HttpParserError):
        parser.feed_data(b"not a chunk")


def test_many_requests_that_ask_for_another_protocol_may_come_at_once() -> None:
    assert len(told(request(b"bare", asks=True) * 2000, [])) == 2000


def test_connection_that_is_closed_is_freed_without_the_garbage_collector() -> None:
    found = Told()
    parser = PlainParser(found)
    parser.feed_data(request(*WITH_BODY, asks=True))
    left = weakref.ref(found)
    gc.disable()
    try:
        parser.close()
        del found, parser
        assert left() is None
    finally:
        gc.enable()
