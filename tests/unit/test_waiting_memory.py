"""What those who wait for a model hold of memory, and what is refused for it."""

import asyncio
import tracemalloc

import pytest
from prometheus_client import CollectorRegistry

from service.batching.batcher import Batcher
from service.batching.waiting_memory import TEXT_BYTES, TOKEN_BYTES
from service.errors import InferenceFailed, Overloaded
from tests.unit.fakes import POISON, FakeEncoder, GatedEncoder, Row, with_batcher

TEXTS = 500
TOKENS = 20


def distinct_texts(first: int) -> list[list[int]]:
    # Numbers above 256, which Python makes anew each time.
    return [[1000 + first + text] * (TOKENS - 1) + [1000] for text in range(TEXTS)]


def held(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("encserve_queue_bytes", {"model": "fake", "version": "1"})


def test_texts_in_flight_that_cost_no_tokens_are_refused_by_their_memory() -> None:
    encoder = GatedEncoder()
    registry = CollectorRegistry()
    texts = distinct_texts(0)
    bytes_each = TEXTS * (TEXT_BYTES + TOKEN_BYTES * TOKENS)

    async def body(batcher: Batcher[Row]) -> None:
        first, second = (asyncio.create_task(batcher.submit(texts)) for _ in range(2))
        await encoder.until_running()
        assert held(registry) == 2 * bytes_each
        with pytest.raises(Overloaded, match="ENCSERVE_MAX_QUEUE_BYTES"):
            await batcher.submit(texts)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert held(registry) == bytes_each
        third = asyncio.create_task(batcher.submit(texts))
        encoder.gate.set()
        assert await first == await third
        assert held(registry) == 0

    with_batcher(
        encoder,
        body,
        workers=1,
        max_queue_tokens=10**6,
        max_queue_bytes=2 * bytes_each,
        registry=registry,
    )


def test_callers_whose_text_fails_hold_nothing_afterwards() -> None:
    registry = CollectorRegistry()

    async def body(batcher: Batcher[Row]) -> None:
        with pytest.raises(InferenceFailed):
            await batcher.submit([[1], [POISON]])
        assert held(registry) == 0

    with_batcher(FakeEncoder(), body, registry=registry)


def test_what_is_counted_is_what_python_takes_or_more() -> None:
    """Unless objects grow: then the numbers of `waiting_memory.py` must be measured again."""
    encoder = GatedEncoder()
    taken = 0

    async def body(batcher: Batcher[Row]) -> None:
        nonlocal taken
        running = asyncio.create_task(batcher.submit([[1] * 8]))
        await encoder.until_running()
        tracemalloc.start()
        waiting = asyncio.create_task(
            batcher.submit([[1000 + text + at for at in range(TOKENS)] for text in range(TEXTS)])
        )
        await asyncio.sleep(0)
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        encoder.gate.set()
        await asyncio.gather(running, waiting)

    with_batcher(encoder, body, workers=1, max_queue_tokens=10**6)
    counted = TEXTS * (TEXT_BYTES + TOKEN_BYTES * TOKENS)
    assert counted / 2 < taken <= counted
