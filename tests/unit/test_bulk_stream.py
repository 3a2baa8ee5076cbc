"""The end of a bulk stream whose caller leaves, one turn of the event loop at a time."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from starlette.types import Message

from service.api.bulk_room import Room
from service.api.bulk_stream import BulkStream
from service.inputs import Input
from service.settings import load_settings


def test_stream_is_over_when_all_that_it_asked_for_is() -> None:
    """Whoever counts the request then finds none of its texts in the queue."""
    under_way: set[int] = set()
    state: dict[str, Any] = {}

    async def run() -> None:
        asked = asyncio.Event()

        async def answering(texts: list[Input]) -> Any:
            under_way.add(id(texts))
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                under_way.remove(id(texts))

        sent = iter([b'"a train"\n"the food"\n'])

        async def receive() -> Message:
            for body in sent:
                return {"type": "http.request", "body": body, "more_body": True}
            await asked.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            pass

        engine: Any = SimpleNamespace(name="embedding", version="1", digest="0")
        engines: Any = SimpleNamespace(draining=False, holds=lambda engine: True)
        stream = BulkStream(engine, answering, Room(100), engines, load_settings())
        await stream(cast(Any, {"type": "http", "state": state}), receive, send)
        assert asked.is_set()
        assert not under_way

    asyncio.run(run())
    assert state["outcome"] == "cancelled"
