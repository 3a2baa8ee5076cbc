"""Callers who send at their own times, whatever comes back, and who keep book of it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self

from benchmarks.common import percentile
from benchmarks.lean_client import END_OF_HEAD, Connection

# What became of a request that got no answer at all.
LOST = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """due_s: when the request was to be sent; took_s: from then to its answer."""

    due_s: float
    took_s: float
    status: int
    reason: str


@dataclass
class OpenLoop:
    """Requests at random moments, `rate` a second, from the start of the block to its end.

    make: the whole bytes of a request, by its number.
    apart: head and body in two writes, as clients in Python send them.
    """

    url: str
    make: Callable[[int], bytes]
    rate: float
    apart: bool = False
    outcomes: list[Outcome] = field(default_factory=list)
    sent: int = 0

    async def __aenter__(self) -> Self:
        self._idle: list[Connection] = []
        self._stop, self._seen = asyncio.Event(), asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        await asyncio.gather(*self._asking)
        for connection in self._idle:
            connection.close()

    async def stop(self) -> None:
        """Send nothing more; what was sent is still waited for at the end of the block."""
        self._stop.set()
        await self._sending

    async def until_seen(self, status: int, count: int) -> None:
        """Wait for so many answers with this status; a minute at most."""
        async with asyncio.timeout(60):
            while self.statuses()[status] < count:
                self._seen.clear()
                await self._seen.wait()

    @property
    def unanswered(self) -> int:
        return self.sent - len(self.outcomes)

    async def until_settled(self, most: int) -> None:
        """Wait until no more than so many are unanswered; a minute at most."""
        async with asyncio.timeout(60):
            while self.unanswered > most:
                self._seen.clear()
                await self._seen.wait()

    def took_s(self, status: int, share: float) -> float:
        """A quantile of the times of the answers with this status."""
        return percentile([one.took_s for one in self.outcomes if one.status == status], share)

    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in self.outcomes)

    def between(self, start_s: float, end_s: float, status: int) -> int:
        """Answers with this status that came in that time."""
        return sum(
            one.status == status and start_s <= one.due_s + one.took_s < end_s
            for one in self.outcomes
        )

    async def _send(self) -> None:
        rng = random.Random(0)
        due_s = time.perf_counter()
        for number in count():
            due_s += rng.expovariate(self.rate)
            if self._stop.is_set():
                return
            await asyncio.sleep(due_s - time.perf_counter())
            self.sent += 1
            task = asyncio.create_task(self._ask(self.make(number), due_s))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, request: bytes, due_s: float) -> None:
        status, reason = LOST, ""
        try:
            connection = await self._connection()
            answer = await connection.ask(*_parts(request, self.apart))
            status = answer.status
            if status != 200:
                reason = answer.body[:200].decode(errors="replace")
            if status == 429 and b"\r\nretry-after: " not in answer.head.lower():
                status, reason = LOST, "429 without Retry-After"
            if b"\r\nconnection: close\r\n" in answer.head.lower():
                connection.close()
            else:
                self._idle.append(connection)
        except OSError as error:
            reason = f"{type(error).__name__}: {error}"
        took_s = time.perf_counter() - due_s
        self.outcomes.append(Outcome(due_s, took_s, status, reason))
        self._seen.set()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return await Connection.open(self.url)


def _parts(request: bytes, apart: bool) -> tuple[bytes, ...]:
    if not apart:
        return (request,)
    body_at = request.index(END_OF_HEAD) + len(END_OF_HEAD)
    return request[:body_at], request[body_at:]


async def capacity(
    url: str,
    make: Callable[[int], bytes],
    seconds: float,
    clients: int,
    *,
    apart: bool = False,
) -> float:
    """Requests a second that are answered, when `clients` always have one under way each.

    apart: they are sent as those of `OpenLoop` are, which takes more of all who read them.
    """
    numbers = count(10**9)
    answered: list[float] = []
    started_s = time.perf_counter()

    async def client() -> None:
        connection = await Connection.open(url)
        while time.perf_counter() < started_s + seconds or len(answered) < clients:
            answer = await connection.ask(*_parts(make(next(numbers)), apart))
            if answer.status == 200:
                answered.append(time.perf_counter())
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(answered) / (max(answered) - started_s)


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """What went wrong, kind by kind."""
    wrong = Counter((one.status, one.reason) for one in outcomes if one.status != 200)
    return [f"{times} x {status} {reason}" for (status, reason), times in wrong.items()]
