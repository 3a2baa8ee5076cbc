"""Futures, admission, workers and drain: every accepted text is answered exactly once.

Work-conserving: a worker takes what waits the moment it is free, and nothing waits for a batch to
fill. A failing batch is retried text by text, so that only the text at fault fails.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.batching.queue import TokenQueue
from service.batching.workers import WorkerPool
from service.errors import (
    EncserveError,
    InferenceFailed,
    Overloaded,
    ShuttingDown,
    TooManyTokens,
)
from service.metrics import Metrics

logger = logging.getLogger(__name__)

TokenIds = Sequence[int]
RowT = TypeVar("RowT")

# How much the newest run counts in the running mean of tokens per second.
THROUGHPUT_SMOOTHING = 0.1


@dataclass(slots=True)
class _Text(Generic[RowT]):
    token_ids: TokenIds
    answer: asyncio.Future[RowT]
    queued_at_s: float

    @property
    def tokens(self) -> int:
        return len(self.token_ids)

    @property
    def abandoned(self) -> bool:
        return self.answer.done()


class Batcher(Generic[RowT]):
    """Turns concurrent requests into model runs and hands each row to the caller who asked for it.

    Args:
        run: maps token ids of n texts to n rows; called in a thread of `pool`.
        pool: the threads; several batchers may share it.
        model: name for metrics.
        max_batch_tokens: budget of one run; a longer text runs alone.
        max_queue_tokens: what may wait before requests are refused.
    """

    def __init__(
        self,
        run: Callable[[Sequence[TokenIds]], Collection[RowT]],
        pool: WorkerPool,
        metrics: Metrics,
        *,
        model: str,
        max_batch_tokens: int,
        max_queue_tokens: int,
    ) -> None:
        self._run = run
        self._pool = pool
        self._metrics = metrics
        self._model = model
        self._max_batch_tokens = max_batch_tokens
        self._max_queue_tokens = max_queue_tokens
        self._queue: TokenQueue[_Text[RowT]] = TokenQueue()
        self._has_work = asyncio.Event()
        self._closing = False
        self._workers: list[asyncio.Task[None]] = []
        self._tokens_per_s = 0.0

    @property
    def serving(self) -> bool:
        """True while the workers live and new requests are accepted."""
        return bool(self._workers) and not self._closing

    def start(self) -> None:
        """Start the workers; needs a running event loop."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._pool.size)]
        for worker in self._workers:
            worker.add_done_callback(self._on_worker_done)

    async def submit(self, texts: Sequence[TokenIds]) -> list[RowT]:
        """The rows of `texts`, in their order. Cancelling the call abandons what is not yet run.

        Raises:
            TooManyTokens: the request is larger than the whole queue.
            Overloaded: the queue has no room for all of it now; nothing was accepted.
            ShuttingDown: no more requests are accepted.
            InferenceFailed: the model failed on one of the texts.
        """
        tokens = sum(map(len, texts))
        self._admit(tokens)
        loop = asyncio.get_running_loop()
        now_s = time.perf_counter()
        items = [_Text(token_ids, loop.create_future(), now_s) for token_ids in texts]
        self._queue.put(items)
        self._report_queue()
        self._has_work.set()
        try:
            rows: list[RowT] = await asyncio.gather(*(item.answer for item in items))
            return rows
        finally:
            for item in items:
                item.answer.cancel()

    async def close(self, grace_s: float) -> None:
        """Refuse new requests, finish what was accepted within `grace_s`, fail what is left."""
        self._closing = True
        self._has_work.set()
        if self._workers:
            await asyncio.wait(self._workers, timeout=grace_s)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._fail_waiting(_shutting_down())

    def _admit(self, tokens: int) -> None:
        if not self.serving:
            raise _shutting_down()
        if tokens > self._max_queue_tokens:
            raise TooManyTokens(
                f"the request has {tokens} tokens, the limit is {self._max_queue_tokens}: "
                "send fewer texts at a time, or raise ENCSERVE_MAX_QUEUE_TOKENS"
            )
        if self._queue.tokens + tokens > self._max_queue_tokens:
            self._metrics.rejected_requests.labels(self._model, "queue_full").inc()
            raise Overloaded(
                f"the queue is full ({self._queue.tokens} of {self._max_queue_tokens} tokens, "
                "ENCSERVE_MAX_QUEUE_TOKENS): send the request again later",
                retry_after_s=self._drain_time_s(),
            )

    def _drain_time_s(self) -> float:
        if not self._tokens_per_s:
            return 1.0
        return max(1.0, self._queue.tokens / (self._tokens_per_s * self._pool.size))

    async def _work(self) -> None:
        while True:
            await self._has_work.wait()
            async with self._pool.slot:
                batch = self._queue.take(self._max_batch_tokens)
                self._report_queue()
                if batch:
                    await self._answer(batch)
                elif self._closing:
                    return
                else:
                    self._has_work.clear()

    async def _answer(self, batch: list[_Text[RowT]]) -> None:
        now_s = time.perf_counter()
        queue_duration = self._metrics.stage_duration.labels(self._model, "queue")
        for item in batch:
            queue_duration.observe(now_s - item.queued_at_s)
        try:
            await self._run_batch(batch)
        except asyncio.CancelledError:
            # The worker was stopped in the middle of a run: nobody may wait for ever.
            for item in batch:
                _fail(item, _shutting_down())
            raise

    async def _run_batch(self, batch: list[_Text[RowT]]) -> None:
        try:
            rows = await self._infer(batch)
        except Exception as error:
            await self._run_one_by_one(batch, error)
            return
        for item, row in zip(batch, rows, strict=True):
            _resolve(item, row)

    async def _run_one_by_one(self, batch: list[_Text[RowT]], error: Exception) -> None:
        """Find the text that made its batch fail: its neighbours still get their answers."""
        if len(batch) == 1:
            _fail(batch[0], error)
            return
        for item in batch:
            if item.abandoned:
                continue
            try:
                (row,) = await self._infer([item])
            except Exception as single_error:
                _fail(item, single_error)
            else:
                _resolve(item, row)

    async def _infer(self, batch: list[_Text[RowT]]) -> Collection[RowT]:
        tokens = sum(item.tokens for item in batch)
        self._metrics.batch_texts.labels(self._model).observe(len(batch))
        self._metrics.batch_tokens.labels(self._model).observe(tokens)
        started_s = time.perf_counter()
        with self._metrics.stage(self._model, "infer"):
            rows = await self._pool.run(self._run, [item.token_ids for item in batch])
        if len(rows) != len(batch):
            raise InferenceFailed(f"the model returned {len(rows)} rows for {len(batch)} texts")
        self._observe_throughput(tokens / max(time.perf_counter() - started_s, 1e-9))
        return rows

    def _observe_throughput(self, tokens_per_s: float) -> None:
        if not self._tokens_per_s:
            self._tokens_per_s = tokens_per_s
        self._tokens_per_s += THROUGHPUT_SMOOTHING * (tokens_per_s - self._tokens_per_s)

    def _report_queue(self) -> None:
        self._metrics.queue_texts.labels(self._model).set(len(self._queue))
        self._metrics.queue_tokens.labels(self._model).set(self._queue.tokens)

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        if self._closing or worker.cancelled() or worker.exception() is None:
            return
        logger.error("a worker of model %s died", self._model, exc_info=worker.exception())
        self._closing = True
        self._fail_waiting(InferenceFailed("the model's worker died; the server must be restarted"))

    def _fail_waiting(self, error: EncserveError) -> None:
        for item in self._queue.clear():
            if not item.abandoned:
                item.answer.set_exception(error)
        self._report_queue()


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the server is shutting down: send the request again later")


def _resolve(item: _Text[RowT], row: RowT) -> None:
    if not item.abandoned:
        item.answer.set_result(row)


def _fail(item: _Text[RowT], error: Exception) -> None:
    if item.abandoned:
        return
    if not isinstance(error, EncserveError):
        # Only the kind is logged: a message of the runtime may quote what it was fed.
        logger.error("a model run failed: %s", type(error).__name__)
        error = InferenceFailed("the model could not answer for this text")
    item.answer.set_exception(error)
