"""Callers who leave: in the middle of their body, in the queue, and while they are computed."""

import asyncio
import math
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.lean_client import ask_once, post_bytes
from tests.chaos.replicas import Replica
from tests.chaos.sizes import size

LEAVERS = size(10_000, 240)
# Callers who leave together: a third at each stage.
WAVE = size(300, 120)
LEAST_NEVER_COMPUTED = 0.95
# As many as a request may have: one worker, a text a run, is busy with them for a while.
LARGE = 2048
# Texts of a request whose caller leaves while it is computed.
FEW = 20
VARIABLES = {
    "ENCSERVE_MAX_BATCH_TOKENS": "1",
    "ENCSERVE_WORKERS": "1",
    "ENCSERVE_CACHE_BYTES": "0",
    # Whoever waits here is to leave, not to be refused.
    "ENCSERVE_MAX_QUEUE_WAIT_S": "600",
}
# Texts that were run.
RUN = "encserve_batch_texts_sum"
_SAMPLE = re.compile(r"^(encserve_\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@pytest.fixture
def replica(tiny_store: Path) -> Iterator[Replica]:
    with closing(Replica(tiny_store, **VARIABLES)) as started:
        started.wait_until_ready()
        yield started


async def told(url: str, name: str) -> float:
    """The sum of a metric's samples."""
    answer = await ask_once(url, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    return sum(
        float(value) for found, value in _SAMPLE.findall(answer.body.decode()) if found == name
    )


async def until_told(url: str, name: str, least: float, most: float = math.inf) -> None:
    async with asyncio.timeout(120):
        while not least <= await told(url, name) <= most:
            pass


def request(first: int, count: int, *, bulk: bool = False) -> bytes:
    """So many texts, no two the same; bulk waits until nobody else does."""
    inputs = b",".join(b'"the train %d"' % number for number in range(first, first + count))
    whole = post_bytes("/v1/embeddings", b'{"input": [%s]}' % inputs)
    return whole.replace(b"\r\n", b"\r\nX-Priority: bulk\r\n", 1) if bulk else whole


Callers = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def calling(url: str, requests: list[bytes]) -> Callers:
    """A connection for each, over which it has gone."""
    host, _, port = url.removeprefix("http://").partition(":")
    callers = []
    for data in requests:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        await writer.drain()
        callers.append((reader, writer))
    return callers


def leave(callers: Callers) -> None:
    for _, writer in callers:
        writer.transport.abort()


async def wave(url: str, first: int) -> float:
    """Callers come and go; how many texts of those who left the queue were computed after all."""
    third = WAVE // 3
    accepted, computed = await told(url, "encserve_texts_total"), await told(url, RUN)
    ((large, writer),) = await calling(url, [request(10**6 + first * LARGE, LARGE)])
    await until_told(url, "encserve_texts_total", accepted + LARGE)
    in_body = await calling(url, [request(first + at, 1)[:-9] for at in range(third)])
    queued = await calling(url, [request(first + third + at, 1, bulk=True) for at in range(third)])
    await until_told(url, "encserve_texts_total", accepted + LARGE + third)
    assert await told(url, "encserve_queue_texts") > third, "the large request was done too soon"
    leave(in_body + queued)
    assert b" 200 " in await large.readuntil(b"\r\n")
    writer.transport.abort()
    await until_told(url, "encserve_queue_texts", 0, 0)
    in_vain = await told(url, RUN) - computed - LARGE
    computed = await told(url, RUN)
    some = [request(2 * 10**6 + (first + at) * FEW, FEW) for at in range(third)]
    computing = await calling(url, some)
    await until_told(url, RUN, computed + 1)
    leave(computing)
    await until_nobody_is_left(url)
    return in_vain


async def until_nobody_is_left(url: str) -> None:
    # The one connection is ours, which asks.
    await until_told(url, "encserve_connections", 1, 1)
    for slots in ("encserve_queue_texts", "encserve_queue_tokens", "encserve_bodies_bytes"):
        await until_told(url, slots, 0, 0)


def test_callers_who_leave_hold_no_slot_and_what_they_queued_is_not_computed(
    replica: Replica,
) -> None:
    asyncio.run(leavers(replica))


async def leavers(replica: Replica) -> None:
    await wave(replica.url, 0)
    files = open_files(replica)
    waves = range(WAVE, WAVE + LEAVERS, WAVE)
    in_vain = sum([await wave(replica.url, first) for first in waves])
    queued = len(waves) * (WAVE // 3)
    print(
        f"\n{len(waves) * WAVE} callers left; of {queued} texts that were left in the queue "
        f"{in_vain:.0f} were computed; open files {files} before, {open_files(replica)} after"
    )
    assert in_vain <= (1 - LEAST_NEVER_COMPUTED) * queued
    assert open_files(replica) <= files
    answer = await ask_once(replica.url, request(0, 1))
    assert answer.status == 200


def open_files(replica: Replica) -> int:
    return len(list(Path(f"/proc/{replica.process.popen.pid}/fd").iterdir()))
