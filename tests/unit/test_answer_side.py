"""The head of an answer goes with its body, and never waits for one that is not there."""

import asyncio
from collections.abc import Callable
from typing import cast

from service.api.answer_side import AnswerSide

HEAD, BODY = b"HTTP/1.1 200 OK\r\n\r\n", b"body"


class Written:
    """A transport that keeps each write apart."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def answering(body: Callable[[AnswerSide], None]) -> tuple[Written, list[bytes]]:
    """The transport after the loop has come round, and what was written before it did."""

    async def run() -> tuple[Written, list[bytes]]:
        written = Written()
        transport = cast(asyncio.Transport, written)
        side = AnswerSide(transport, written.writes.append, written.close)
        body(side)
        at_once = list(written.writes)
        await asyncio.sleep(0)
        return written, at_once

    return asyncio.run(run())


def test_head_and_body_are_one_write_of_each_answer() -> None:
    def two_answers(side: AnswerSide) -> None:
        for _ in range(2):
            side.begin()
            side.write(HEAD)
            side.write(BODY)

    written, at_once = answering(two_answers)
    assert written.writes == at_once == [HEAD + BODY] * 2


def test_head_of_a_stream_goes_out_before_there_is_a_body() -> None:
    def head(side: AnswerSide) -> None:
        side.begin()
        side.write(HEAD)

    written, at_once = answering(head)
    assert (at_once, written.writes) == ([], [HEAD])


def test_nothing_after_the_head_waits() -> None:
    def stream(side: AnswerSide) -> None:
        side.begin()
        for part in (HEAD, b"1", b"2", b"3"):
            side.write(part)

    assert answering(stream)[1] == [HEAD + b"1", b"2", b"3"]


def test_head_alone_is_written_before_the_end() -> None:
    def last(side: AnswerSide) -> None:
        side.begin()
        side.write(HEAD)
        side.close()

    written, at_once = answering(last)
    assert at_once == written.writes == [HEAD]
    assert written.closed


def test_nothing_is_written_to_a_connection_that_ended_meanwhile() -> None:
    async def run() -> list[bytes]:
        written = Written()
        side = AnswerSide(cast(asyncio.Transport, written), written.writes.append, written.close)
        side.begin()
        side.write(HEAD)
        written.closed = True
        await asyncio.sleep(0)
        return written.writes

    assert asyncio.run(run()) == []
