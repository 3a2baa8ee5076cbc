"""Two replicas behind a balancer: one is restarted under load, again and again.

Needs two servers, a balancer and minutes: only `make chaos` collects this.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.chaos.balancers import haproxy, nginx
from tests.chaos.load import OpenLoop, capacity, failures
from tests.chaos.replicas import CLIENTS, MEASURE_S, Replica, request, until_asked

RESTARTS = int(os.environ.get("RESTARTS", 50))

Balancer = Callable[[list[int], Path], AbstractContextManager[str]]


@pytest.mark.parametrize("balancer", [haproxy, nginx])
def test_restarting_one_of_two_replicas_under_half_load_loses_no_request(
    balancer: Balancer, replicas: list[Replica], tmp_path: Path
) -> None:
    with balancer([replica.port for replica in replicas], tmp_path) as url:
        asyncio.run(restarts(url, replicas))


async def restarts(url: str, replicas: list[Replica]) -> None:
    half = await capacity(url, request, MEASURE_S, CLIENTS, apart=True) / 2
    began_s = time.perf_counter()
    async with OpenLoop(url, request, half, apart=True) as load:
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
