"""A real process whose model hangs in native code: unready in time, others served, then ended."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.chaos.sizes import size
from tests.integration.conftest import Process, until
from tests.integration.poisoned import HANG, poisoned_store

STUCK_RUN_S = size(8.0, 0.5)
STUCK_EXIT_S = size(20.0, 3.5)
# Two looks of the watchdog, and what the machine needs to come round to it: little when nothing
# else runs.
LATE_S = size(2.0, 15.0)


@pytest.fixture
def hanging(tmp_path: Path, tiny_store: Path) -> Iterator[Process]:
    variables = {
        "ENCSERVE_WORKERS": "2",
        "ENCSERVE_CACHE_BYTES": "0",
        "ENCSERVE_STUCK_RUN_S": str(STUCK_RUN_S),
        "ENCSERVE_STUCK_EXIT_S": str(STUCK_EXIT_S),
        # Each start tries the models in a process of its own, which is not what is tested.
        "ENCSERVE_PROBE": "false",
    }
    process = Process(poisoned_store(tmp_path / "store", tiny_store), os.environ | variables)
    yield process
    process.close()


def ask(url: str, text: str) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/sentiment", json={"input": text}, timeout=60)


@contextmanager
def hung_run(url: str) -> Iterator[float]:
    """A request hangs meanwhile; yields when it was sent, by the monotonic clock."""

    def hang() -> None:
        with suppress(httpx2.HTTPError):
            ask(url, HANG)

    thread = threading.Thread(target=hang)
    thread.start()
    yield time.monotonic()
    thread.join(timeout=60)


def test_hanging_model_turns_readiness_red_in_time_and_then_ends_the_process(
    hanging: Process,
) -> None:
    url = hanging.announced()[1]
    with hung_run(url) as sent_s:
        until(lambda: "encserve_workers_busy 1.0" in httpx2.get(f"{url}/metrics").text)
        assert ask(url, "good").status_code == 200
        until(lambda: httpx2.get(f"{url}/readyz").status_code == 503)
        red_s = time.monotonic() - sent_s
        assert httpx2.get(f"{url}/livez").status_code == 200
        assert "encserve_workers_stuck 1.0" in httpx2.get(f"{url}/metrics").text
        assert httpx2.get(f"{url}/v2/models/sentiment/ready").status_code == 503
        status = hanging.popen.wait(timeout=60)
        ended_s = time.monotonic() - sent_s
    assert status == 70
    assert STUCK_RUN_S <= red_s <= STUCK_RUN_S + LATE_S
    assert STUCK_EXIT_S <= ended_s <= STUCK_EXIT_S + LATE_S
    until(lambda: "ENCSERVE_STUCK_EXIT_S" in hanging.output)
    assert "a run of model sentiment" in hanging.output
    print(f"unready after {red_s:.1f} s, ended after {ended_s:.1f} s")
