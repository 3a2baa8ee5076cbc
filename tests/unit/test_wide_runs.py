"""A run that has the machine for itself takes all cores, and no other does."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from service.batching.batcher import Batcher
from service.batching.runner import WideRun
from service.batching.workers import CALM_S
from tests.unit.fakes import FakeEncoder, GatedEncoder, Row, with_batcher
from tests.unit.test_workers import LEAST_WIDE_TOKENS, long_text


def with_wide(
    narrow: FakeEncoder,
    wide: FakeEncoder,
    body: Callable[[Batcher[Row]], Coroutine[Any, Any, None]],
    *,
    workers: int,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """A batcher whose runs are those of `wide` where they have the machine for themselves."""
    with_batcher(
        narrow,
        body,
        workers=workers,
        max_batch_tokens=LEAST_WIDE_TOKENS,
        wide=WideRun(wide, LEAST_WIDE_TOKENS),
        clock=clock,
    )


def test_text_that_is_alone_runs_wide_and_a_short_one_does_not() -> None:
    narrow, wide = FakeEncoder(), FakeEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        assert await batcher.submit([long_text(1)]) == [tuple(long_text(1))]
        await batcher.submit([[2]])

    with_wide(narrow, wide, body, workers=2)
    assert wide.batches == [[tuple(long_text(1))]]
    assert narrow.batches == [[(2,)]]


def test_nothing_runs_wide_beside_another_run() -> None:
    narrow, wide = GatedEncoder(), FakeEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        running = asyncio.create_task(batcher.submit([[9]]))
        await narrow.until_running()
        beside = asyncio.create_task(batcher.submit([long_text(1)]))
        await narrow.until_running()
        narrow.gate.set()
        await asyncio.gather(running, beside)

    with_wide(narrow, wide, body, workers=2)
    assert wide.batches == []


def test_nothing_runs_wide_until_runs_have_not_overlapped_for_a_while() -> None:
    """Those that come at such a rate would each find the cores taken by the one before."""
    narrow, wide = GatedEncoder(), FakeEncoder()
    now_s = 0.0

    async def body(batcher: Batcher[Row]) -> None:
        nonlocal now_s
        running = asyncio.create_task(batcher.submit([[9]]))
        await narrow.until_running()
        beside = asyncio.create_task(batcher.submit([[8]]))
        await narrow.until_running()
        narrow.gate.set()
        await asyncio.gather(running, beside)
        for number, at_s in enumerate((0.5 * CALM_S, 1.5 * CALM_S)):
            now_s = at_s
            await batcher.submit([long_text(number)])

    with_wide(narrow, wide, body, workers=2, clock=lambda: now_s)
    assert wide.batches == [[tuple(long_text(1))]]


def test_nothing_runs_wide_while_texts_wait() -> None:
    narrow, wide = FakeEncoder(), FakeEncoder()

    async def body(batcher: Batcher[Row]) -> None:
        await batcher.submit([long_text(number) for number in range(3)])

    with_wide(narrow, wide, body, workers=1)
    assert [len(encoder.batches) for encoder in (narrow, wide)] == [2, 1]
