"""Memory does not grow with requests; a leak of a mebibyte a request would be seen.

In full half an hour on the default models of model_store (SOAK_S says otherwise).
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.leaking import LEAK
from tests.chaos.sizes import size
from tests.chaos.soak import Soak, fill, soak, soak_s
from tests.integration.conftest import Process

SOAK_S = soak_s(size(1800.0, 1.0))
# Before memory counts: a server that has had a core to itself holds more than one that never had.
WARM_UP_S = size(60.0, 0.2)
# `make chaos` starts what runs beside the soak when it reads this.
WARM = "warm"
LEAKING_S = size(60.0, 0.5)
# A mebibyte each, of which the second half must show more than what may grow.
LEAKING_REQUESTS = 80
MOST_GROWTH_MIB = 16.0
# Small, so that it is full before the second half, and rows come and go from then on.
CACHE_BYTES = 8 * 2**20


@pytest.fixture
def server(tiny_store: Path) -> Iterator[Process]:
    store = Path(size("model_store", str(tiny_store)))
    variables = {
        "ENCSERVE_CACHE_BYTES": str(CACHE_BYTES),
        "ENCSERVE_PROBE": "false",
        # What is asked for is memory: on a slow machine no request is refused for its wait.
        "ENCSERVE_MAX_QUEUE_WAIT_S": "600",
        "ENCSERVE_REQUEST_TIMEOUT_S": "600",
    }
    process = Process(
        store, os.environ | variables, command=[sys.executable, "-m", "tests.chaos.leaking"]
    )
    yield process
    process.close()


def test_memory_does_not_grow_and_a_planted_leak_is_seen(
    server: Process, capfd: pytest.CaptureFixture[str]
) -> None:
    url, pid = server.announced()[1], server.popen.pid
    fill(url)
    soak(url, pid, WARM_UP_S, seed=200)
    with capfd.disabled():
        print(WARM, flush=True)
    sound = soak(url, pid, SOAK_S)
    leaking = soak(url, pid, LEAKING_S, first_word=LEAK, seed=100, requests=LEAKING_REQUESTS)
    with capfd.disabled():
        print(f"{SOAK_S:g} s: {sound}\n{LEAKING_S:g} s with a leak: {leaking}")
    assert_answered(sound)
    assert sound.second_half_growth_mib <= MOST_GROWTH_MIB
    assert_answered(leaking)
    assert leaking.second_half_growth_mib > MOST_GROWTH_MIB


def assert_answered(found: Soak) -> None:
    assert found.statuses.keys() <= {200, 400}
    assert found.statuses[200] > found.statuses[400]
