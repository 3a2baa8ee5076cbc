"""How much of a model's queue all bulk streams together may fill: the rest is for other callers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from service.engine import Engine
from service.settings import Settings

SHARE_OF_QUEUE = 2
# Several portions fit, so that streams take turns and workers never wait for the next.
PORTIONS_IN_ROOM = 4


class Room:
    """First come first served; work that is larger than the room has it for itself."""

    def __init__(self, tokens: int) -> None:
        self._tokens = self._free = tokens
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @property
    def portion_tokens(self) -> int:
        """How large a piece of work should be, at most."""
        return max(1, self._tokens // PORTIONS_IN_ROOM)

    @asynccontextmanager
    async def hold(self, tokens: int) -> AsyncIterator[None]:
        """Wait until `tokens` more fit, and keep their place."""
        tokens = min(tokens, self._tokens)
        async with self._turn:
            while self._free < tokens:
                self._freed.clear()
                await self._freed.wait()
            self._free -= tokens
        try:
            yield
        finally:
            self._free += tokens
            self._freed.set()


class Rooms:
    """The room of each engine."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = max(1, settings.max_queue_tokens // SHARE_OF_QUEUE)
        self._rooms: WeakKeyDictionary[Engine, Room] = WeakKeyDictionary()

    def of(self, engine: Engine) -> Room:
        """The same for all streams that ask `engine`."""
        if engine not in self._rooms:
            self._rooms[engine] = Room(self._tokens)
        return self._rooms[engine]
