"""The batcher through its public door, with a fake encoder that counts what it is asked."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.batching.batcher import Batcher
from service.batching.cache import Cache
from service.batching.queue import Priority
from service.batching.workers import WorkerPool
from service.errors import (
    DeadlineExceeded,
    InferenceFailed,
    Overloaded,
    ShuttingDown,
    TooManyTokens,
)
from service.metrics import Metrics

POISON = 666


class FakeEncoder:
    """Answers each text with its own ids, so that a mix-up shows; fails on poison."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, ...]]] = []
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        with self._lock:
            self.batches.append([tuple(text) for text in texts])
        if any(POISON in text for text in texts):
            raise ValueError("poisoned")
        return [tuple(text) for text in texts]

    def times_computed(self) -> Counter[tuple[int, ...]]:
        return Counter(text for batch in self.batches for text in batch)


class GatedEncoder(FakeEncoder):
    """Waits inside `run` until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.running = threading.Semaphore(0)
        self.gate = threading.Event()

    def __call__(self, texts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        self.running.release()
        assert self.gate.wait(timeout=10)
        return super().__call__(texts)

    async def until_running(self) -> None:
        assert await asyncio.to_thread(self.running.acquire, timeout=10)


Row = tuple[int, ...]
Body = Callable[[Batcher[Row]], Awaitable[None]]


def with_batcher(
    encoder: Callable[[Sequence[Sequence[int]]], list[Row]],
    body: Callable[[Batcher[Row]], Coroutine[Any, Any, None]],
    *,
    workers: int = 2,
    max_batch_tokens: int = 8,
    max_queue_tokens: int = 1000,
    cache: Cache[Row] | None = None,
    registry: CollectorRegistry | None = None,
) -> None:
    async def run() -> None:
        pool = WorkerPool(workers)
        batcher: Batcher[Row] = Batcher(
            encoder,
            pool,
            Metrics(registry or CollectorRegistry()),
            cache,
            model="fake",
            max_batch_tokens=max_batch_tokens,
            max_queue_tokens=max_queue_tokens,
        )
        batcher.start()
        try:
            async with asyncio.timeout(20):
                await body(batcher)
        finally:
            await batcher.close(grace_s=5)
            pool.close()

    asyncio.run(run())


def test_rows_come_back_in_the_order_of_the_texts() -> None:
    texts = [[i] * (1 + i % 5) for i in range(50)]

    async def body(batcher: Batcher[Row]) -> None:
        assert await batcher.submit(texts) == [tuple(text) for text in texts]

    with_batcher(FakeEncoder(), body)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=30),
    st.integers(1, 3),
    st.integers(1, 16),
)
def test_concurrent_callers_each_get_their_own_rows_computed_once(
    lengths: list[list[int]], workers: int, budget: int
) -> None:
    encoder = FakeEncoder()
    serial = iter(range(1000, 100_000))
    requests = [[[next(serial)] * length for length in request] for request in lengths]

    async def body(batcher: Batcher[Row]) -> None:
        answers = await asyncio.gather(*(batcher.submit(request) for request in requests))
        assert answers == [[tuple(text) for text in request] for request in requests]

    with_batcher(encoder, body, workers=workers, max_batch_tokens=budget, max_queue_tokens=100_000)
    assert set(encoder.times_computed().values()) == {1}


def test_waiting_texts_share_a_batch_without_waiting_for_it_to_fill() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        first = asyncio.create_task(batcher.submit([[1]]))
        await encoder.until_running()
        rest = [asyncio.create_task(batcher.submit([[i]])) for i in (2, 3, 4)]
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(first, *rest)

    with_batcher(encoder, body, workers=1)
    assert encoder.batches == [[(1,)], [(2,), (3,), (4,)]]


def test_poisoned_text_fails_alone_and_its_neighbours_are_answered() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        first = asyncio.create_task(batcher.submit([[1]]))
        await encoder.until_running()
        good = asyncio.create_task(batcher.submit([[2], [3]]))
        bad = asyncio.create_task(batcher.submit([[POISON]]))
        also_good = asyncio.create_task(batcher.submit([[4]]))
        await asyncio.sleep(0)
        encoder.gate.set()
        assert await first == [(1,)]
        assert await good == [(2,), (3,)]
        assert await also_good == [(4,)]
        with pytest.raises(InferenceFailed) as failure:
            await bad
        assert "poisoned" not in str(failure.value)
        assert await batcher.submit([[5]]) == [(5,)]

    with_batcher(encoder, body, workers=1)
    assert [(2,), (3,), (POISON,), (4,)] in encoder.batches


def test_cancelled_caller_is_not_computed_and_does_not_delay_its_batch() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        first = asyncio.create_task(batcher.submit([[1]]))
        await encoder.until_running()
        left = asyncio.create_task(batcher.submit([[2]]))
        stayed = asyncio.create_task(batcher.submit([[3]]))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        encoder.gate.set()
        assert await first == [(1,)]
        assert await stayed == [(3,)]

    with_batcher(encoder, body, workers=1)
    assert encoder.times_computed() == {(1,): 1, (3,): 1}


def test_caller_cancelled_while_computing_leaves_the_others_their_answers() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        blocker = asyncio.create_task(batcher.submit([[9]]))
        await encoder.until_running()
        callers = [asyncio.create_task(batcher.submit([[i]])) for i in (1, 2, 3)]
        await asyncio.sleep(0)
        encoder.gate.set()
        await blocker
        await encoder.until_running()
        callers[0].cancel()
        assert await callers[1] == [(2,)]
        assert await callers[2] == [(3,)]

    with_batcher(encoder, body, workers=1)


def test_request_that_does_not_fit_is_refused_whole_with_a_retry_time() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        running = asyncio.create_task(batcher.submit([[1] * 8]))
        await encoder.until_running()
        waiting = asyncio.create_task(batcher.submit([[2] * 8]))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refusal:
            await batcher.submit([[3], [4] * 4])
        assert refusal.value.retry_after_s >= 1
        encoder.gate.set()
        await asyncio.gather(running, waiting)

    registry = CollectorRegistry()
    with_batcher(encoder, body, workers=1, max_queue_tokens=12, registry=registry)
    assert (3,) not in encoder.times_computed()
    labels = {"model": "fake", "reason": "overloaded"}
    assert registry.get_sample_value("encserve_rejected_requests_total", labels) == 1


def test_callers_who_left_make_room_at_once() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        running = asyncio.create_task(batcher.submit([[1] * 8]))
        await encoder.until_running()
        left = asyncio.create_task(batcher.submit([[2] * 8, [3] * 4]))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        assert registry.get_sample_value("encserve_queue_tokens", {"model": "fake"}) == 0
        assert registry.get_sample_value("encserve_queue_texts", {"model": "fake"}) == 0
        stays = asyncio.create_task(batcher.submit([[4] * 12]))
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(running, stays)

    registry = CollectorRegistry()
    with_batcher(encoder, body, workers=1, max_queue_tokens=12, registry=registry)
    assert set(encoder.times_computed()) == {(1,) * 8, (4,) * 12}


def test_two_workers_run_side_by_side() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        answers = asyncio.gather(batcher.submit([[1] * 8]), batcher.submit([[2] * 8]))
        await encoder.until_running()
        await encoder.until_running()
        encoder.gate.set()
        await answers

    with_batcher(encoder, body, workers=2)


def test_same_text_of_several_callers_is_computed_once_and_answered_to_each() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        blocker = asyncio.create_task(batcher.submit([[9] * 8]))
        await encoder.until_running()
        waiting = [asyncio.create_task(batcher.submit([[1], [2], [1]])) for _ in range(3)]
        await asyncio.sleep(0)
        joins_the_running = asyncio.create_task(batcher.submit([[9] * 8]))
        await asyncio.sleep(0)
        encoder.gate.set()
        assert await blocker == await joins_the_running == [(9,) * 8]
        for caller in waiting:
            assert await caller == [(1,), (2,), (1,)]

    registry = CollectorRegistry()
    with_batcher(encoder, body, workers=1, registry=registry)
    assert encoder.times_computed() == {(9,) * 8: 1, (1,): 1, (2,): 1}
    for source, texts in (("computed", 3), ("in_flight", 8), ("cached", 0)):
        labels = {"model": "fake", "source": source}
        assert registry.get_sample_value("encserve_texts_total", labels) == texts


def test_caller_who_leaves_takes_nothing_from_those_who_wait_for_the_same_text() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        blocker = asyncio.create_task(batcher.submit([[9]]))
        await encoder.until_running()
        first, second = (asyncio.create_task(batcher.submit([[1]])) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        encoder.gate.set()
        await blocker
        assert await second == [(1,)]

    with_batcher(encoder, body, workers=1)


def test_short_request_does_not_wait_for_the_large_one_that_holds_the_same_text() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        blocker = asyncio.create_task(batcher.submit([[9] * 8]))
        await encoder.until_running()
        large = asyncio.create_task(batcher.submit([[number] * 8 for number in range(10, 30)]))
        short = asyncio.create_task(batcher.submit([[29] * 8]))
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(blocker, large, short)

    with_batcher(encoder, body, workers=1)
    order = [batch[0][0] for batch in encoder.batches]
    assert order.index(29) <= 2
    assert sorted(order) == [9, *range(10, 30)]


def test_bulk_waits_for_interactive_requests() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        blocker = asyncio.create_task(batcher.submit([[9] * 8]))
        await encoder.until_running()
        bulk = asyncio.create_task(batcher.submit([[1] * 8], priority=Priority.BULK))
        now = [asyncio.create_task(batcher.submit([[number] * 8])) for number in (2, 3)]
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(blocker, bulk, *now)

    with_batcher(encoder, body, workers=1)
    assert [batch[0][0] for batch in encoder.batches] == [9, 2, 3, 1]


def test_text_that_waits_past_its_deadline_is_refused_and_never_computed() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        blocker = asyncio.create_task(batcher.submit([[9] * 8]))
        await encoder.until_running()
        late = asyncio.create_task(batcher.submit([[1]], deadline_s=time.perf_counter()))
        await asyncio.sleep(0)
        encoder.gate.set()
        await blocker
        with pytest.raises(DeadlineExceeded):
            await late

    registry = CollectorRegistry()
    with_batcher(encoder, body, workers=1, registry=registry)
    assert (1,) not in encoder.times_computed()
    labels = {"model": "fake", "reason": "deadline_exceeded"}
    assert registry.get_sample_value("encserve_rejected_requests_total", labels) == 1


def test_row_in_the_cache_is_not_computed_again_even_when_the_queue_is_full() -> None:
    class Rows(dict[bytes, Row]):
        def put(self, key: bytes, row: Row) -> None:
            self[key] = row

    encoder = GatedEncoder()
    encoder.gate.set()

    async def body(batcher: Batcher[Row]) -> None:
        assert await batcher.submit([[1]]) == [(1,)]
        encoder.running.acquire()
        encoder.gate.clear()
        running = asyncio.create_task(batcher.submit([[2] * 8]))
        await encoder.until_running()
        waiting = asyncio.create_task(batcher.submit([[3] * 12]))
        await asyncio.sleep(0)
        assert await batcher.submit([[1], [1]]) == [(1,), (1,)]
        encoder.gate.set()
        await asyncio.gather(running, waiting)

    with_batcher(encoder, body, workers=1, max_queue_tokens=12, cache=Rows())
    assert encoder.times_computed()[1,] == 1


class Crash(BaseException):
    """What no handler of ordinary errors catches, as a panic in native code."""


def test_worker_that_dies_fails_its_callers_and_says_that_it_is_broken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def crash(texts: Sequence[Sequence[int]]) -> list[Row]:
        raise Crash("secret text")

    async def body(batcher: Batcher[Row]) -> None:
        assert not batcher.broken
        with pytest.raises((ShuttingDown, InferenceFailed)):
            await batcher.submit([[1]])
        assert batcher.broken

    with_batcher(crash, body, workers=1)
    assert "Crash" in caplog.text
    assert "secret text" not in caplog.text


def test_request_larger_than_the_queue_can_never_be_accepted() -> None:
    async def body(batcher: Batcher[Row]) -> None:
        with pytest.raises(TooManyTokens, match="ENCSERVE_MAX_QUEUE_TOKENS"):
            await batcher.submit([[1] * 13])

    with_batcher(FakeEncoder(), body, max_queue_tokens=12)


def test_closing_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        accepted = [asyncio.create_task(batcher.submit([[i] * 8])) for i in range(1, 6)]
        await encoder.until_running()
        closing = asyncio.create_task(batcher.close(grace_s=10))
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            await batcher.submit([[7]])
        encoder.gate.set()
        assert await asyncio.gather(*accepted) == [[(i,) * 8] for i in range(1, 6)]
        await closing

    with_batcher(encoder, body, workers=1)


def test_closing_without_grace_fails_what_still_waits_or_runs() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        running = asyncio.create_task(batcher.submit([[1] * 8]))
        await encoder.until_running()
        waiting = asyncio.create_task(batcher.submit([[2] * 8]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close(grace_s=0))
        for accepted in (running, waiting):
            with pytest.raises(ShuttingDown):
                await accepted
        encoder.gate.set()
        await closing

    with_batcher(encoder, body, workers=1)


def test_wrong_number_of_rows_is_an_error_and_never_a_mix_up() -> None:
    def forgetful(texts: Sequence[Sequence[int]]) -> list[Row]:
        return [tuple(text) for text in texts][:-1]

    async def body(batcher: Batcher[Row]) -> None:
        with pytest.raises(InferenceFailed, match="0 rows for 1 texts"):
            await batcher.submit([[1], [2]])

    with_batcher(forgetful, body)


def test_metrics_count_texts_tokens_and_leave_the_gauges_at_zero() -> None:
    registry = CollectorRegistry()

    async def body(batcher: Batcher[Row]) -> None:
        await asyncio.gather(*(batcher.submit([[1, number], [number]]) for number in range(10)))

    with_batcher(FakeEncoder(), body, registry=registry)
    model = {"model": "fake"}
    assert registry.get_sample_value("encserve_batch_texts_sum", model) == 20
    assert registry.get_sample_value("encserve_batch_tokens_sum", model) == 30
    assert registry.get_sample_value("encserve_queue_texts", model) == 0
    assert registry.get_sample_value("encserve_queue_tokens", model) == 0
    stage = model | {"stage": "queue"}
    assert registry.get_sample_value("encserve_stage_duration_seconds_count", stage) == 20
