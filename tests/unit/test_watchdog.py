"""Runs that do not end: what turns unready, what ends, and what is none of the run's doing."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry

from service.batching.watchdog import LOOK_S, Watchdog
from service.batching.workers import WorkerPool
from service.metrics import Metrics
from tests.unit.fakes import GatedEncoder
from tests.unit.test_workers import batcher_of

STUCK_RUN_S = 8.0
STUCK_EXIT_S = 20.0


class Trial:
    """A pool, a watchdog, and a clock that the test moves."""

    def __init__(self, *, stuck_exit_s: float = STUCK_EXIT_S) -> None:
        self.pool = WorkerPool(1)
        self.registry = CollectorRegistry()
        self.ended = 0
        self.now_s = 1000.0
        self.watchdog = Watchdog(
            self.pool,
            Metrics(self.registry).workers_stuck,
            stuck_run_s=STUCK_RUN_S,
            stuck_exit_s=stuck_exit_s,
            clock=lambda: self.now_s,
            end=self._end,
        )

    def _end(self) -> None:
        self.ended += 1

    def pass_s(self, seconds: float) -> None:
        """Time goes by, and the watchdog looks as often as it does."""
        for _ in range(round(seconds / LOOK_S)):
            self.now_s += LOOK_S
            self.watchdog.look()

    @property
    def stuck(self) -> float | None:
        return self.registry.get_sample_value("encserve_workers_stuck")


@contextmanager
def running(trial: Trial) -> Iterator[threading.Event]:
    """A run of model "slow" is under way until the event is set, or the block ends."""
    encoder = GatedEncoder()

    async def ask() -> None:
        batcher = batcher_of(encoder, trial.pool, "slow")
        batcher.start()
        await batcher.submit([[1]])
        await batcher.close(grace_s=5)
        trial.pool.close()

    thread = threading.Thread(target=asyncio.run, args=(ask(),))
    thread.start()
    try:
        assert encoder.running.acquire(timeout=10)
        yield encoder.gate
    finally:
        encoder.gate.set()
        thread.join()


def test_run_that_does_not_end_is_stuck_after_the_first_limit_and_not_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trial = Trial()
    with running(trial):
        trial.pass_s(STUCK_RUN_S)
        assert (trial.pool.stuck, trial.stuck) == (0, 0)
        trial.pass_s(2 * LOOK_S)
        assert (trial.pool.stuck, trial.stuck) == (1, 1)
    assert "model slow" in caplog.text
    assert "ENCSERVE_STUCK_RUN_S" in caplog.text


def test_process_ends_after_the_second_limit_and_not_before() -> None:
    trial = Trial()
    with running(trial):
        trial.pass_s(STUCK_EXIT_S)
        assert trial.ended == 0
        trial.pass_s(2 * LOOK_S)
        assert trial.ended > 0


def test_process_never_ends_where_the_second_limit_is_0() -> None:
    trial = Trial(stuck_exit_s=0)
    with running(trial):
        trial.pass_s(10 * STUCK_EXIT_S)
        assert (trial.pool.stuck, trial.ended) == (1, 0)


def test_run_that_ends_after_all_is_not_stuck_any_more() -> None:
    trial = Trial()
    with running(trial) as gate:
        trial.pass_s(STUCK_RUN_S + LOOK_S)
        gate.set()
        while trial.pool.under_way():
            pass
        trial.watchdog.look()
        assert (trial.pool.stuck, trial.stuck) == (0, 0)


def test_closing_does_not_wait_for_a_stuck_run_which_ends_the_process_instead() -> None:
    trial = Trial()
    with running(trial):
        trial.pass_s(STUCK_RUN_S + LOOK_S)
        trial.pool.close()
        trial.watchdog.stop()
        assert trial.ended == 1


def test_closing_waits_for_a_run_that_is_not_stuck() -> None:
    trial = Trial()
    with running(trial) as gate:
        closing = threading.Thread(target=trial.pool.close)
        closing.start()
        trial.pass_s(STUCK_RUN_S - LOOK_S)
        assert closing.is_alive()
        gate.set()
        closing.join(timeout=10)
        assert not closing.is_alive()
        trial.watchdog.look()
        trial.watchdog.stop()
        assert trial.ended == 0


def test_process_that_was_stopped_for_an_hour_has_no_stuck_runs() -> None:
    trial = Trial()
    with running(trial):
        trial.watchdog.look()
        trial.now_s += 3600
        trial.watchdog.look()
        assert (trial.pool.stuck, trial.ended) == (0, 0)


class PutAside:
    """Work on the thread aside that begins, and ends when it may."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.gate = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.gate.wait(timeout=10)


def test_runs_one_after_the_other_are_each_counted_from_their_own_start() -> None:
    trial = Trial()
    works = [PutAside() for _ in range(3)]

    async def body() -> None:
        waiting = [asyncio.create_task(trial.pool.run_aside(work)) for work in works]
        for work, task in zip(works, waiting, strict=True):
            assert await asyncio.to_thread(work.begun.wait, 10)
            trial.pass_s(STUCK_RUN_S)
            assert trial.pool.stuck == 0
            work.gate.set()
            await task

    asyncio.run(body())
    trial.pool.close()


def test_what_is_put_aside_is_watched_as_well() -> None:
    trial = Trial()
    work = PutAside()

    async def body() -> None:
        waiting = asyncio.create_task(trial.pool.run_aside(work))
        assert await asyncio.to_thread(work.begun.wait, 10)
        trial.pass_s(STUCK_RUN_S + LOOK_S)
        assert trial.pool.stuck == 1
        work.gate.set()
        await waiting

    asyncio.run(body())
    assert trial.pool.under_way() == []
    trial.pool.close()
