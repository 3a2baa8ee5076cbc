"""The load generator: closed and open loops of lean connections, in a process of its own."""

import asyncio
import multiprocessing
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice

import uvloop

from benchmarks.lean_client import Answer, Connection
from benchmarks.traffic import Request

MOST_CONNECTIONS = 1024


@dataclass(frozen=True)
class Stream:
    """What one kind of caller sends: `clients` in a closed loop, or a rate in an open one.

    rate: requests a second, at random moments that do not wait for any answer.
    rest_s: what each client of a closed loop waits between an answer and its next request.
    first: index of the first request; after the last comes the first again.
    """

    requests: Sequence[Request]
    clients: int = 1
    rate: float | None = None
    first: int = 0
    rest_s: float = 0.0

    def turns(self) -> Iterator[Request]:
        return islice(cycle(self.requests), self.first % len(self.requests), None)


@dataclass
class Sent:
    """What one stream saw; `took_s` runs to the last answer, `client_cpu_s` is of all streams."""

    latencies_s: list[float] = field(default_factory=list)
    texts: int = 0
    tokens: int = 0
    refused: int = 0
    errors: int = 0
    took_s: float = 0.0
    client_cpu_s: float = 0.0

    def note(self, request: Request, answer: Answer, since_s: float) -> None:
        if answer.status == 200:
            self.latencies_s.append(time.perf_counter() - since_s)
            self.texts += len(request.texts)
            self.tokens += request.tokens
        elif answer.status == 429:
            self.refused += 1
        else:
            self.errors += 1


Drive = Callable[[str, Sequence[Stream], float], list[Sent]]


@contextmanager
def load_generator() -> Iterator[Drive]:
    """Yields `drive(url, streams, seconds)`, which runs all streams at once in another process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        yield lambda url, streams, seconds: process.submit(drive, url, streams, seconds).result()


def drive(url: str, streams: Sequence[Stream], seconds: float) -> list[Sent]:
    """One result a stream; requests that began within `seconds` are all waited for."""
    return uvloop.run(_drive(url, streams, seconds))


async def _drive(url: str, streams: Sequence[Stream], seconds: float) -> list[Sent]:
    cpu_s = time.process_time()
    sent = await asyncio.gather(
        *(
            _closed_loop(url, stream, seconds)
            if stream.rate is None
            else _open_loop(url, stream, stream.rate, seconds)
            for stream in streams
        )
    )
    for one in sent:
        one.client_cpu_s = time.process_time() - cpu_s
    return sent


async def _closed_loop(url: str, stream: Stream, seconds: float) -> Sent:
    """Each client sends its next request when the last is answered; refused, it waits as told."""
    sent, turns = Sent(), stream.turns()
    async with _connections(url) as take:
        connections = [await take() for _ in range(stream.clients)]
        started_s = time.perf_counter()
        stop_s = started_s + seconds

        async def client(connection: Connection) -> None:
            while (since_s := time.perf_counter()) < stop_s:
                request = next(turns)
                answer = await connection.ask(request.payload)
                sent.note(request, answer, since_s)
                if stream.rest_s:
                    await asyncio.sleep(stream.rest_s)
                if answer.status != 200:
                    await asyncio.sleep(min(answer.retry_after_s, stop_s - time.perf_counter()))

        await asyncio.gather(*map(client, connections))
        sent.took_s = time.perf_counter() - started_s
    return sent


async def _open_loop(url: str, stream: Stream, rate: float, seconds: float) -> Sent:
    """Requests at random moments; a latency counts from that moment, whenever it was sent."""
    sent, turns, rng = Sent(), stream.turns(), random.Random(stream.first)
    slots = asyncio.Semaphore(MOST_CONNECTIONS)
    idle: list[Connection] = []
    async with _connections(url) as take:

        async def send(request: Request, due_s: float) -> None:
            async with slots:
                while idle and idle[-1].closed:
                    idle.pop()
                connection = idle.pop() if idle else await take()
                sent.note(request, await connection.ask(request.payload), due_s)
                idle.append(connection)

        started_s = due_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while (due_s := due_s + rng.expovariate(rate)) < started_s + seconds:
                await asyncio.sleep(due_s - time.perf_counter())
                group.create_task(send(next(turns), due_s))
        sent.took_s = time.perf_counter() - started_s
    return sent


@asynccontextmanager
async def _connections(url: str) -> AsyncIterator[Callable[[], Awaitable[Connection]]]:
    """Yields a function that opens one more; all are closed at the end."""
    opened: list[Connection] = []

    async def take() -> Connection:
        opened.append(await Connection.open(url))
        return opened[-1]

    try:
        yield take
    finally:
        for connection in opened:
            connection.close()
