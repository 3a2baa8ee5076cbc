"""Two replicas: one is killed under load, again and again.

Needs two servers, a balancer and minutes: only `make chaos` collects this.
"""

import asyncio
import os
import time
from pathlib import Path

from tests.chaos.balancers import haproxy
from tests.chaos.load import OpenLoop, capacity, failures
from tests.chaos.replicas import CLIENTS, IN_USE, MEASURE_S, Replica, request, until_asked

KILLS = int(os.environ.get("KILLS", 20))
READY_AGAIN_S = 5.0


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
                in_flight = load.unanswered
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
    """Each kill when what had waited for the one before is answered.

    A replica that starts takes the cores on which the other one computes, for a second: without
    the wait, callers pile up from kill to kill until there are more than HAProxy takes.
    """
    half = await capacity(url, request, MEASURE_S, CLIENTS, apart=True) / 2
    async with OpenLoop(url, request, half, apart=True) as load:
        for _ in range(KILLS):
            await until_asked(killed)
            await load.until_settled(CLIENTS)
            await asyncio.to_thread(killed.kill)
            killed.start()
            await asyncio.to_thread(killed.wait_until_ready)
    print(
        f"\n{KILLS} kills behind HAProxy: {load.sent} sent at {half:.0f}/s, {dict(load.statuses())}"
    )
    assert load.statuses().keys() == {200}, failures(load.outcomes)
