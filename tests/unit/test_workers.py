"""The threads that all models share: turns, and a model that breaks."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry

from service.batching.batcher import Batcher
from service.batching.queue import Priority
from service.batching.workers import WorkerPool
from service.errors import InferenceFailed
from service.metrics import Metrics
from tests.unit.fakes import FakeEncoder, GatedEncoder, Row, with_batcher

LEAST_WIDE_TOKENS = 64


def batcher_of(encoder: FakeEncoder, pool: WorkerPool, name: str) -> Batcher[Row]:
    metrics = Metrics(CollectorRegistry()).of_model(name, "1")
    return Batcher(
        encoder,
        pool,
        metrics,
        model=name,
        max_batch_tokens=LEAST_WIDE_TOKENS,
        max_queue_tokens=10_000,
    )


def long_text(number: int) -> list[int]:
    return [number] * LEAST_WIDE_TOKENS


def test_two_models_take_turns_on_one_worker() -> None:
    order: list[str] = []

    class Noting(FakeEncoder):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def __call__(self, texts: Sequence[Sequence[int]]) -> list[Row]:
            order.append(self.name)
            return super().__call__(texts)

    async def body() -> None:
        pool = WorkerPool(1)
        first, second = (batcher_of(Noting(name), pool, name) for name in "ab")
        gate = GatedEncoder()
        blocking = batcher_of(gate, pool, "gate")
        for batcher in (blocking, first, second):
            batcher.start()
        blocker = asyncio.create_task(blocking.submit([[1]]))
        await gate.until_running()
        waiting = [
            asyncio.create_task(batcher.submit([long_text(number) for number in range(5)]))
            for batcher in (first, second)
        ]
        await asyncio.sleep(0)
        gate.gate.set()
        await asyncio.gather(blocker, *waiting)
        for batcher in (blocking, first, second):
            await batcher.close(grace_s=5)
        pool.close()

    asyncio.run(body())
    assert sorted(order) == ["a"] * 5 + ["b"] * 5
    assert all(left != right for left, right in pairwise(order))


def test_every_idle_worker_is_woken_however_the_texts_fall_into_batches() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        # More than half a budget each: no two share a batch.
        texts = [[number] * (LEAST_WIDE_TOKENS // 2 + 1) for number in range(6)]
        answers = asyncio.create_task(batcher.submit(texts))
        for _ in texts:
            await encoder.until_running()
        encoder.gate.set()
        await answers

    with_batcher(encoder, body, workers=6, max_batch_tokens=LEAST_WIDE_TOKENS)


def test_model_with_a_limit_of_runs_keeps_it_and_finishes() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        answers = asyncio.create_task(batcher.submit([[number] for number in range(20)]))
        await encoder.until_running()
        assert not await asyncio.to_thread(encoder.running.acquire, timeout=0.2)
        encoder.gate.set()
        assert len(await answers) == 20

    with_batcher(encoder, body, workers=3, max_batch_tokens=1, max_runs=1)


def test_defect_in_choosing_a_batch_fails_the_callers_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def defect(now_s: float, *, express: bool) -> None:
        raise ZeroDivisionError

    async def body() -> None:
        pool = WorkerPool(1)
        bad, good = (batcher_of(FakeEncoder(), pool, name) for name in ("bad", "good"))
        monkeypatch.setattr(bad._queue, "take", defect)
        good.start()
        bad.start()
        with pytest.raises(InferenceFailed, match="died"):
            await bad.submit([[1]])
        assert bad.broken
        assert await good.submit([[2]]) == [(2,)]
        await asyncio.gather(bad.close(grace_s=5), good.close(grace_s=5))
        pool.close()

    asyncio.run(body())


def test_worker_outlives_an_event_loop_that_was_closed_under_it() -> None:
    encoder = GatedEncoder()

    async def submit_and_leave() -> WorkerPool:
        pool = WorkerPool(1)
        batcher = batcher_of(encoder, pool, "fake")
        batcher.start()
        task = asyncio.create_task(batcher.submit([[1]]))
        await encoder.until_running()
        task.cancel()
        await asyncio.wait([task])
        return pool

    pool = asyncio.run(submit_and_leave())
    encoder.gate.set()
    pool.close()
    assert encoder.times_computed() == {(1,): 1}


def test_model_that_breaks_leaves_the_other_its_workers() -> None:
    class Crash(BaseException):
        pass

    class Crashing(FakeEncoder):
        def __call__(self, texts: Sequence[Sequence[int]]) -> list[Row]:
            raise Crash

    async def body() -> None:
        pool = WorkerPool(1)
        bad, good = batcher_of(Crashing(), pool, "bad"), batcher_of(FakeEncoder(), pool, "good")
        bad.start()
        good.start()
        with pytest.raises(InferenceFailed, match="died"):
            await bad.submit([[1]])
        assert bad.broken
        assert await good.submit([[2]]) == [(2,)]
        await asyncio.gather(bad.close(grace_s=5), good.close(grace_s=5))
        pool.close()

    asyncio.run(body())


def test_requests_from_many_callers_end_while_callers_come_and_go() -> None:
    encoder = FakeEncoder()

    async def body(batcher: Batcher[Row]) -> None:

        async def caller(number: int) -> int:
            answered = 0
            for turn in range(40):
                texts = [[number, turn, part] for part in range(1 + turn % 3)]
                task = asyncio.create_task(batcher.submit(texts))
                if turn % 5 == number % 5:
                    await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait([task])
                    continue
                assert await task == [tuple(text) for text in texts]
                answered += 1
            return answered

        async with asyncio.timeout(60):
            answered = await asyncio.gather(*map(caller, range(20)))
        assert sum(answered) == 20 * 32

    with_batcher(encoder, body, workers=3, max_batch_tokens=LEAST_WIDE_TOKENS)
    assert set(encoder.times_computed().values()) == {1}


def test_short_text_does_not_wait_for_long_ones_that_hold_every_worker() -> None:
    class GatedOnLong(GatedEncoder):
        def __call__(self, texts: Sequence[Sequence[int]]) -> list[Row]:
            if sum(map(len, texts)) > LEAST_WIDE_TOKENS:
                return super().__call__(texts)
            return FakeEncoder.__call__(self, texts)

    encoder = GatedOnLong()

    async def body(batcher: Batcher[Row]) -> None:
        long = [
            asyncio.create_task(batcher.submit([[number] * (LEAST_WIDE_TOKENS + 1)]))
            for number in range(4)
        ]
        await encoder.until_running()
        await encoder.until_running()
        bulk = asyncio.create_task(batcher.submit([[8]], priority=Priority.BULK))
        assert await batcher.submit([[9]]) == [(9,)]
        assert not any(task.done() for task in (*long, bulk))
        encoder.gate.set()
        await asyncio.gather(*long, bulk)

    with_batcher(encoder, body, workers=2, max_batch_tokens=LEAST_WIDE_TOKENS)
    assert encoder.batches[0] == [(9,)]


def test_runs_within_the_budget_are_never_more_than_the_workers() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        texts = [asyncio.create_task(batcher.submit([long_text(number)])) for number in range(4)]
        await encoder.until_running()
        await encoder.until_running()
        assert not await asyncio.to_thread(encoder.running.acquire, timeout=0.2)
        encoder.gate.set()
        await asyncio.gather(*texts)

    with_batcher(encoder, body, workers=2, max_batch_tokens=LEAST_WIDE_TOKENS)
