"""Two replicas behind a balancer: one is restarted or killed under load, again and again.

Needs two servers, a balancer and minutes: only `make chaos` collects this.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest

from benchmarks.lean_client import post_bytes
from tests.chaos.balancers import haproxy, nginx
from tests.chaos.load import OpenLoop, capacity, failures
from tests.chaos.replicas import Replica
from tests.integration.conftest import until

RESTARTS = int(os.environ.get("RESTARTS", 50))
KILLS = int(os.environ.get("KILLS", 20))
READY_AGAIN_S = 5.0
CLIENTS = 16
MEASURE_S = 5.0
# Answers of a replica by which it is known to be in use.
IN_USE = 50
# Longer than both balancers need to notice: HAProxy 1 s.
DRAIN_S = "3"

Balancer = Callable[[list[int], Path], AbstractContextManager[str]]


@pytest.fixture
def replicas(tiny_store: Path) -> Iterator[list[Replica]]:
    variables = {"ENCSERVE_DRAIN_S": DRAIN_S, "ENCSERVE_CACHE_BYTES": "0"}
    started = [Replica(tiny_store, **variables) for _ in range(2)]
    try:
        for replica in started:
            replica.wait_until_ready()
        yield started
    finally:
        for replica in started:
            replica.close()


def request(number: int) -> bytes:
    return post_bytes("/v1/embeddings", b'{"input": ["the food %d", "a train"]}' % number)


@pytest.mark.parametrize("balancer", [haproxy, nginx])
def test_restarting_one_of_two_replicas_under_half_load_loses_no_request(
    balancer: Balancer, replicas: list[Replica], tmp_path: Path
) -> None:
    with balancer([replica.port for replica in replicas], tmp_path) as url:
        asyncio.run(restarts(url, replicas))


async def until_asked(replica: Replica) -> None:
    """Until its balancer has sent it some requests, since it was started."""
    await asyncio.to_thread(until, lambda: answered(replica) >= IN_USE)


def answered(replica: Replica) -> float:
    page = httpx2.get(f"{replica.url}/metrics").text
    found = re.findall(r'^encserve_slo_requests_total{.*fault="none".*} (\S+)$', page, re.MULTILINE)
    return sum(map(float, found))


async def restarts(url: str, replicas: list[Replica]) -> None:
    half = await capacity(url, request, MEASURE_S, CLIENTS) / 2
    began_s = time.perf_counter()
    async with OpenLoop(url, request, half) as load:
        for number in range(RESTARTS):
            status = await asyncio.to_thread(replicas[number % 2].restart)
            assert status == 0
            # The balancer has to know that it is back: the other one goes next.
            await until_asked(replicas[number % 2])
    took_s = time.perf_counter() - began_s
    print(
        f"\n{RESTARTS} restarts in {took_s:.0f} s at {half:.0f} requests/s: {load.sent} sent, "
        f"{dict(load.statuses())}, p99 {1000 * load.took_s(200, 0.99):.0f} ms"
    )
    assert load.statuses().keys() == {200}, failures(load.outcomes)


def test_killed_replica_loses_only_what_it_had_in_flight_and_is_soon_ready_again(
    replicas: list[Replica],
) -> None:
    """Each replica has its own callers here, so that nobody mends what a kill breaks."""
    asyncio.run(kills(replicas))


async def kills(replicas: list[Replica]) -> None:
    killed, other = replicas
    rate = await capacity(killed.url, request, MEASURE_S, CLIENTS) / 4
    ready_again_s: list[float] = []
    async with OpenLoop(other.url, request, rate) as untouched:
        for _ in range(KILLS):
            async with OpenLoop(killed.url, request, rate) as load:
                await load.until_seen(200, IN_USE)
                await load.stop()
                in_flight = load.sent - len(load.outcomes)
                killed.kill()
            assert load.statuses()[200] >= load.sent - in_flight, failures(load.outcomes)
            since_s = time.perf_counter()
            killed.start()
            await asyncio.to_thread(killed.wait_until_ready)
            ready_again_s.append(time.perf_counter() - since_s)
    print(
        f"\n{KILLS} kills: the other replica had {untouched.sent} requests at {rate:.0f}/s, "
        f"{dict(untouched.statuses())}; ready again after at most {max(ready_again_s):.2f} s"
    )
    assert untouched.statuses().keys() == {200}, failures(untouched.outcomes)
    assert max(ready_again_s) <= READY_AGAIN_S


def test_killed_replica_behind_haproxy_costs_nobody_an_answer(
    replicas: list[Replica], tmp_path: Path
) -> None:
    with haproxy([replica.port for replica in replicas], tmp_path) as url:
        asyncio.run(kills_behind(url, replicas[0]))


async def kills_behind(url: str, killed: Replica) -> None:
    half = await capacity(url, request, MEASURE_S, CLIENTS) / 2
    async with OpenLoop(url, request, half) as load:
        for _ in range(KILLS):
            await until_asked(killed)
            await asyncio.to_thread(killed.kill)
            killed.start()
            await asyncio.to_thread(killed.wait_until_ready)
    print(f"\n{KILLS} kills behind HAProxy: {load.sent} sent, {dict(load.statuses())}")
    assert load.statuses().keys() == {200}, failures(load.outcomes)
