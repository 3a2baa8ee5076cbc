"""Bytes that are hardly HTTP, on many connections at once: no 5xx, no death, no memory kept."""

import asyncio
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2
import pytest

from tests.chaos.sizes import size
from tests.chaos.streams import chunked, mutated
from tests.integration.conftest import Process
from tests.integration.every_route import checked_error, sound_requests

STREAMS = size(50_000, 300)
WARM_UP = STREAMS // 5
AT_ONCE = 64
MOST_GROWTH_BYTES = 32 * 2**20
STATUS = re.compile(rb"(?:^|\n|\}|\])HTTP/1\.[01] (\d{3}) ")
# What is cut off or lacks its end is given up soon, so that a trial goes on.
QUICK = {
    "ENCSERVE_HEADER_TIMEOUT_S": "0.2",
    "ENCSERVE_BODY_TIMEOUT_S": "0.2",
    "ENCSERVE_BULK_IDLE_TIMEOUT_S": "0.2",
    "ENCSERVE_REQUEST_TIMEOUT_S": "30",
}
# A stream that is not ended by the server is left after so long without a byte.
SILENCE_S = 2.0


@pytest.fixture
def target(tiny_store: Path) -> Iterator[Process]:
    started = Process(tiny_store, os.environ | QUICK)
    yield started
    started.close()


def memory_bytes(pid: int) -> int:
    """Resident memory of the process that is not shared."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = [line.split()[1] for line in lines if line.startswith("Private_")]
    return sum(map(int, private)) * 1024


def test_mutated_bytes_are_no_fault_of_the_server(target: Process) -> None:
    url = target.announced()[1]
    sound = [
        asked.raw()
        for asked in sound_requests(httpx2.get(f"{url}/openapi.json", timeout=60).json())
    ]
    sound += [chunked(request) for request in sound if request.startswith(b"POST")]
    port = int(url.rsplit(":", 1)[1])
    statuses = asyncio.run(send_all(port, sound, range(WARM_UP)))
    before = memory_bytes(target.popen.pid)
    statuses += asyncio.run(send_all(port, sound, range(WARM_UP, STREAMS)))
    grown = memory_bytes(target.popen.pid) - before
    assert target.popen.poll() is None
    assert httpx2.post(f"{url}/v1/sentiment", json={"input": "food"}, timeout=60).is_success
    assert [status for status in statuses if status >= 500] == []
    assert statuses[200] > STREAMS // 50, "hardly anything was sound: the mutations are too wild"
    assert statuses[400] > STREAMS // 20
    assert "Traceback" not in target.output
    assert grown < MOST_GROWTH_BYTES
    print(f"{STREAMS} streams, {dict(sorted(statuses.items()))}, {grown / 2**20:.1f} MiB more")


async def send_all(port: int, sound: Sequence[bytes], numbers: Sequence[int]) -> Counter[int]:
    """How often each status was answered; 0 where nothing was."""
    statuses: Counter[int] = Counter()
    waiting = iter(numbers)

    async def send_some() -> None:
        for number in waiting:
            sent = mutated(number, sound)
            statuses.update(checked(number, await exchanged(port, sent)))

    await asyncio.gather(*(send_some() for _ in range(AT_ONCE)))
    return statuses


async def exchanged(port: int, sent: bytes) -> bytes:
    """What came back until the server had ended the connection, or was silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(sent)
        while part := await asyncio.wait_for(reader.read(1 << 16), SILENCE_S):
            received += part
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return received


def checked(number: int, received: bytes) -> list[int]:
    """The statuses of the answers; an error is checked if it is the only answer."""
    statuses = [int(found) for found in STATUS.findall(received)] or [0]
    head, _, body = received.partition(b"\r\n\r\n")
    if len(statuses) == 1 and statuses[0] >= 400 and body:
        media_type = re.search(rb"content-type: ([^\r]*)", head)
        checked_error(f"stream {number}", media_type[1].decode() if media_type else "", body)
    return statuses
