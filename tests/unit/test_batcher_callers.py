"""Callers of the batcher among themselves: shared texts, priorities, deadlines, and leaving."""

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry

from service.batching.batcher import Batcher
from service.batching.queue import Priority
from service.errors import (
    DeadlineExceeded,
)
from tests.unit.fakes import GatedEncoder, Row, with_batcher


def test_callers_who_left_make_room_at_once() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        running = asyncio.create_task(batcher.submit([[1] * 8]))
        await encoder.until_running()
        left = asyncio.create_task(batcher.submit([[2] * 8, [3] * 4]))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        model = {"model": "fake", "version": "1"}
        assert registry.get_sample_value("encserve_queue_tokens", model) == 0
        assert registry.get_sample_value("encserve_queue_texts", model) == 0
        stays = asyncio.create_task(batcher.submit([[4] * 12]))
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(running, stays)

    registry = CollectorRegistry()
    with_batcher(encoder, body, workers=1, max_queue_tokens=12, registry=registry)
    assert set(encoder.times_computed()) == {(1,) * 8, (4,) * 12}


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
        labels = {"model": "fake", "version": "1", "source": source}
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
    labels = {"model": "fake", "version": "1", "reason": "deadline_exceeded"}
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
