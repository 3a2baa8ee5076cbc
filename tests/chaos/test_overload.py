"""Ten times as much as the server can do, from callers who do not wait for one another."""

import asyncio
import os
import re
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx2
import orjson
import pytest
import uvloop

from benchmarks.common import percentile
from benchmarks.lean_client import ask_once, post_bytes
from benchmarks.traffic import distinct_texts
from tests.chaos.load import OpenLoop, capacity, failures
from tests.chaos.replicas import Replica
from tests.chaos.sizes import FULL, size
from tests.conftest import SENTENCES

TIMES_CAPACITY = 10
OVERLOAD_S = size(120.0, 1.5)
MEASURE_S = size(15.0, 0.5)
# The cut is a second of cores that others use as well: times mean little there, and are only kept
# from what no busy machine explains.
LEAST_GOODPUT = size(0.9, 0.05)
REFUSED_P99_S = size(0.05, 5.0)
PROBE_P99_S = size(0.1, 5.0)
NORMAL_AGAIN_S = size(5.0, 30.0)
LEAST_REFUSED = 20
PROBE_EVERY_S = 0.1
CLIENTS = 16
TEXTS = size(8, 64)
# They come round after 20 s, when the first is long answered: making them costs the server's cores.
PREPARED = size(6000, 100)
# Half a second is long for the tiny model, and short for the test.
CUT = {"ENCSERVE_MAX_QUEUE_WAIT_S": "0.5", "ENCSERVE_MAX_BATCH_TOKENS": "32"}
TOKENS = re.compile(r'^encserve_tokens_total{.*kind="text".*} (\S+)$', re.MULTILINE)
PROBES = ("/livez", "/readyz", "/metrics")


@pytest.fixture
def replica(tiny_store: Path) -> Iterator[Replica]:
    """With the default models for the full figures, which are worth nothing with tiny ones."""
    store = Path("model_store") if FULL else tiny_store
    assert (store / "embedding").exists(), "make the default models first: encserve bootstrap"
    variables = {"ENCSERVE_CACHE_BYTES": "0", "ENCSERVE_DRAIN_S": "0"} | ({} if FULL else CUT)
    with closing(Replica(store, **variables)) as started:
        started.wait_until_ready()
        yield started


def requests() -> Callable[[int], bytes]:
    """Requests of `TEXTS` texts, of which no two are the same within `PREPARED`."""
    texts = distinct_texts(None) if FULL else SENTENCES

    def made(number: int) -> bytes:
        first = number * TEXTS
        body = {"input": [f"{texts[at % len(texts)]} {at}" for at in range(first, first + TEXTS)]}
        return post_bytes("/v1/embeddings", orjson.dumps(body))

    prepared = [made(number) for number in range(PREPARED)]
    return lambda number: prepared[number % PREPARED]


@asynccontextmanager
async def probing(url: str) -> AsyncIterator[list[float]]:
    """Yields the times of the probes of the block, each over a connection of its own."""
    took_s: list[float] = []

    async def probe() -> None:
        while True:
            for path in PROBES:
                asked_s = time.perf_counter()
                answer = await ask_once(url, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                took_s.append(time.perf_counter() - asked_s)
                assert answer.status == 200
            await asyncio.sleep(PROBE_EVERY_S)

    task = asyncio.create_task(probe())
    yield took_s
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), task.exception()


async def alone_s(url: str, make: Callable[[int], bytes], number: int) -> float:
    """How long a request takes; for ever if it is refused."""
    asked_s = time.perf_counter()
    answer = await ask_once(url, make(number))
    return time.perf_counter() - asked_s if answer.status == 200 else float("inf")


async def until_normal_s(url: str, make: Callable[[int], bytes], normal_s: float) -> float:
    """From now until a request takes no more than twice its usual time."""
    since_s = time.perf_counter()
    number = 2 * 10**9
    while await alone_s(url, make, number := number + 1) > 2 * normal_s:
        assert time.perf_counter() - since_s < 60
    return time.perf_counter() - since_s


def test_ten_times_the_load_leaves_goodput_refusals_probes_and_recovery_as_they_should_be(
    replica: Replica,
) -> None:
    # The callers run on the server's cores: what they take, it lacks.
    uvloop.run(overload(replica.url, requests()))


class Callers:
    """What this process, where the callers live, takes of the machine that the server lacks."""

    def __init__(self) -> None:
        self._since_s, self._used_s = time.perf_counter(), time.process_time()

    def left(self) -> float:
        """Cores that it has left to the server since it was made, in the mean."""
        elapsed_s = time.perf_counter() - self._since_s
        return len(os.sched_getaffinity(0)) - (time.process_time() - self._used_s) / elapsed_s


class Computed:
    """What the server's models run, by its own count."""

    def __init__(self, url: str) -> None:
        self._url, self._since_s, self._before = url, time.perf_counter(), self._tokens(url)

    def tokens_s(self) -> float:
        """Tokens of texts a second since it was made."""
        elapsed_s = time.perf_counter() - self._since_s
        return (self._tokens(self._url) - self._before) / elapsed_s

    @staticmethod
    def _tokens(url: str) -> float:
        page = httpx2.get(f"{url}/metrics", timeout=30).text
        return sum(map(float, TOKENS.findall(page)))


async def overload(url: str, make: Callable[[int], bytes]) -> None:
    normal_s = statistics.median([await alone_s(url, make, 3 * 10**9 + n) for n in range(20)])
    few, usual = Callers(), Computed(url)
    before = await capacity(url, make, MEASURE_S, CLIENTS)
    left_by_few, usual_tokens_s = few.left(), usual.tokens_s()
    async with (
        OpenLoop(url, make, TIMES_CAPACITY * before) as load,
        probing(url) as probes,
    ):
        started_s, many, full = time.perf_counter(), Callers(), Computed(url)
        await asyncio.sleep(OVERLOAD_S)
        await load.until_seen(429, LEAST_REFUSED)
        await load.stop()
        ended_s, left_by_many, tokens_s = time.perf_counter(), many.left(), full.tokens_s()
        normal_again_s = await until_normal_s(url, make, normal_s)
    after = await capacity(url, make, MEASURE_S, CLIENTS)
    answered = load.between(started_s, ended_s, 200) / (ended_s - started_s)
    mean_capacity = statistics.mean([before, after])
    goodput = answered / mean_capacity
    # To read, and not to judge by: small requests are let in more often than large ones. Callers
    # need ten times as much of the cores for ten times the load, elsewhere than at the server.
    refused_p99_s, probe_p99_s = load.took_s(429, 0.99), percentile(probes, 0.99)
    print(
        f"\ncapacity {before:.1f} before, {after:.1f} after (requests/s of {TEXTS} texts); sent "
        f"{load.sent / (ended_s - started_s):.0f}/s for {ended_s - started_s:.0f} s; answered "
        f"{answered:.1f}/s: goodput {goodput:.3f} (tokens computed {tokens_s / usual_tokens_s:.3f} "
        f"of it; the callers left {left_by_many:.2f} cores instead of {left_by_few:.2f}); "
        f"200 p50 {load.took_s(200, 0.5):.2f} s, p99 {load.took_s(200, 0.99):.2f} s; "
        f"429 p50 {1000 * load.took_s(429, 0.5):.1f} ms, p99 "
        f"{1000 * refused_p99_s:.1f} ms; probes p99 {1000 * probe_p99_s:.1f} ms of {len(probes)}; "
        f"normal ({1000 * normal_s:.0f} ms) again after {normal_again_s:.2f} s"
    )
    assert load.statuses().keys() == {200, 429}, failures(load.outcomes)
    assert load.statuses()[200] >= CLIENTS
    assert any("ENCSERVE_MAX_QUEUE_WAIT_S" in one.reason for one in load.outcomes)
    assert goodput >= LEAST_GOODPUT
    assert refused_p99_s <= REFUSED_P99_S
    assert probe_p99_s <= PROBE_P99_S
    assert normal_again_s <= NORMAL_AGAIN_S
