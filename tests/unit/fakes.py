"""A fake encoder that counts what it is asked, and a batcher around it."""

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from service.batching.batcher import Batcher
from service.batching.cache import Cache
from service.batching.runner import WideRun
from service.batching.workers import WorkerPool
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


def with_batcher(
    encoder: Callable[[Sequence[Sequence[int]]], list[Row]],
    body: Callable[[Batcher[Row]], Coroutine[Any, Any, None]],
    *,
    workers: int = 2,
    max_batch_tokens: int = 8,
    max_queue_tokens: int = 1000,
    max_queue_wait_s: float = math.inf,
    max_queue_bytes: float = math.inf,
    cache: Cache[Row] | None = None,
    registry: CollectorRegistry | None = None,
    wide: WideRun[Row] | None = None,
    max_runs: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    async def run() -> None:
        pool = WorkerPool(workers, clock)
        batcher: Batcher[Row] = Batcher(
            encoder,
            pool,
            Metrics(registry or CollectorRegistry()).of_model("fake", "1"),
            cache,
            wide=wide,
            max_runs=max_runs,
            model="fake",
            max_batch_tokens=max_batch_tokens,
            max_queue_tokens=max_queue_tokens,
            max_queue_wait_s=max_queue_wait_s,
            max_queue_bytes=max_queue_bytes,
        )
        batcher.start()
        try:
            async with asyncio.timeout(20):
                await body(batcher)
        finally:
            await batcher.close(grace_s=5)
            pool.close()

    asyncio.run(run())
