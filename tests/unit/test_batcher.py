"""The batcher through its public door, with a fake encoder that counts what it is asked."""

import asyncio
import math
import os
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.batching.batcher import Batcher
from service.batching.queue import Priority
from service.errors import (
    InferenceFailed,
    Overloaded,
    ShuttingDown,
    TooManyTokens,
)
from tests.unit.fakes import POISON, FakeEncoder, GatedEncoder, Row, with_batcher


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
    labels = {"model": "fake", "version": "1", "reason": "overloaded"}
    assert registry.get_sample_value("encserve_rejected_requests_total", labels) == 1


def test_long_request_is_refused_before_it_is_tokenized_where_others_of_its_kind_wait() -> None:
    """How long it is, is not known by then but by its characters."""
    permits = threading.Semaphore(0)

    class Permitted(FakeEncoder):
        def __call__(self, texts: Sequence[Sequence[int]]) -> list[Row]:
            assert permits.acquire(timeout=10)
            return super().__call__(texts)

    async def body(batcher: Batcher[Row]) -> None:
        asked = [asyncio.create_task(batcher.submit([[n] * 20])) for n in range(1, 5)]
        # While others wait, so that it is known how fast they go.
        for done in asked[:2]:
            permits.release()
            await done
        with batcher.place(Priority.INTERACTIVE, math.inf, 1, about_tokens=2) as check:
            check()
        # Three batches, or two as guessed wrongly.
        for guess in (20, 12):
            with pytest.raises(Overloaded, match="ENCSERVE_MAX_QUEUE_WAIT_S"):
                batcher.place(Priority.INTERACTIVE, math.inf, 1, guess).__enter__()
        permits.release(2)
        await asyncio.gather(*asked)

    with_batcher(Permitted(), body, workers=1, max_batch_tokens=8, max_queue_wait_s=1e-9)


def test_runs_give_way_to_the_event_loop() -> None:
    """Which else waits for a core as long as a run takes, and what it has to answer with it."""
    niceness: list[int] = []

    class Noting(FakeEncoder):
        def __call__(self, texts: Sequence[Sequence[int]]) -> list[Row]:
            niceness.append(os.getpriority(os.PRIO_PROCESS, 0))
            return super().__call__(texts)

    async def body(batcher: Batcher[Row]) -> None:
        await batcher.submit([[1]])

    with_batcher(Noting(), body)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert own < niceness[0] == min(own + 5, 19)


def test_two_workers_run_side_by_side() -> None:
    encoder = GatedEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        answers = asyncio.gather(batcher.submit([[1] * 8]), batcher.submit([[2] * 8]))
        await encoder.until_running()
        await encoder.until_running()
        encoder.gate.set()
        await answers

    with_batcher(encoder, body, workers=2)


class Crash(BaseException):
    """What no handler of ordinary errors catches, as a panic in native code."""


def test_worker_that_dies_fails_its_callers_and_says_that_it_is_broken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def crash(texts: Sequence[Sequence[int]]) -> list[Row]:
        raise Crash("secret text")

    async def body(batcher: Batcher[Row]) -> None:
        assert not batcher.broken
        with pytest.raises(InferenceFailed, match="died"):
            await batcher.submit([[1]])
        assert batcher.broken
        assert not batcher.serving
        with pytest.raises(InferenceFailed, match="died"):
            await batcher.submit([[2]])

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
    model = {"model": "fake", "version": "1"}
    assert registry.get_sample_value("encserve_batch_texts_sum", model) == 20
    assert registry.get_sample_value("encserve_batch_tokens_sum", model) == 30
    assert registry.get_sample_value("encserve_queue_texts", model) == 0
    assert registry.get_sample_value("encserve_queue_tokens", model) == 0
    stage = model | {"stage": "queue"}
    assert registry.get_sample_value("encserve_stage_duration_seconds_count", stage) == 20
