"""Futures, admission, workers and drain: every accepted text is answered exactly once.

Work-conserving: a worker takes what waits the moment it is free, and nothing waits for a batch to
fill. A text in flight is not computed again: whoever else asks for it joins.
"""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Generic

from service.batching.backlog import Backlog
from service.batching.cache import Cache
from service.batching.pending import PendingRequest, PendingText, RowT, TokenIds, key_of
from service.batching.queue import Priority, TokenQueue
from service.batching.runner import Run, Runner
from service.batching.workers import WorkerPool
from service.errors import (
    DeadlineExceeded,
    EncserveError,
    InferenceFailed,
    Overloaded,
    ShuttingDown,
)
from service.metrics import Metrics

logger = logging.getLogger(__name__)


class Batcher(Generic[RowT]):
    """Turns concurrent requests into model runs and hands each row to the callers who asked for it.

    Args:
        run: maps token ids of n texts to n rows; called in a thread of `pool`.
        pool: the threads; several batchers may share it.
        cache: rows of earlier texts; without one each text is computed anew.
        model: name for metrics.
        max_batch_tokens: budget of one run; a longer text runs alone.
        max_queue_tokens: what may wait before requests are refused.
        padded: the model computes on padded batches, see `TokenQueue`.
    """

    def __init__(
        self,
        run: Run[RowT],
        pool: WorkerPool,
        metrics: Metrics,
        cache: Cache[RowT] | None = None,
        *,
        model: str,
        max_batch_tokens: int,
        max_queue_tokens: int,
        padded: bool = False,
    ) -> None:
        self._runner = Runner(run, pool, metrics, model)
        self._pool = pool
        self._cache = cache
        self._metrics = metrics
        self._model = model
        self._texts_computed = metrics.texts.labels(model, "computed")
        self._texts_in_flight = metrics.texts.labels(model, "in_flight")
        self._texts_cached = metrics.texts.labels(model, "cached")
        self._queue_duration = metrics.stage_duration.labels(model, "queue")
        self._queue: TokenQueue[PendingText[RowT]] = TokenQueue(max_batch_tokens, padded=padded)
        self._in_flight: dict[bytes, PendingText[RowT]] = {}
        self._backlog = Backlog(max_queue_tokens, metrics, model)
        self._has_work = asyncio.Event()
        self._closing = False
        self._workers: list[asyncio.Task[None]] = []

    @property
    def serving(self) -> bool:
        """True while the workers live and new requests are accepted."""
        return bool(self._workers) and not self._closing and not self.broken

    @property
    def broken(self) -> bool:
        """True once a worker has died, which nothing but a restart mends."""
        return any(map(_died, self._workers))

    def start(self) -> None:
        """Start the workers; needs a running event loop."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._pool.size)]
        for worker in self._workers:
            worker.add_done_callback(self._on_worker_done)

    def admit(self, texts: int) -> None:
        """Raise what `submit` would raise for that many texts of one token each.

        Raises:
            Overloaded, ShuttingDown, TooManyTokens: do not even tokenize.
            InferenceFailed: a worker has died.
        """
        if self.broken:
            raise _worker_died()
        if not self.serving:
            raise self._refused(_shutting_down())
        try:
            self._backlog.admit(texts)
        except Overloaded as error:
            raise self._refused(error) from None

    async def submit(
        self,
        texts: Sequence[TokenIds],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline_s: float = math.inf,
    ) -> list[RowT]:
        """The rows of `texts`, in their order. Cancelling the call abandons what is not yet run.

        Args:
            deadline_s: when the caller gives up, on the clock of `time.perf_counter`.

        Raises:
            TooManyTokens: the request is larger than the whole queue.
            Overloaded: the queue has no room for all of it now; nothing was accepted.
            ShuttingDown: no more requests are accepted.
            DeadlineExceeded: a text still waited at the deadline; it was not computed.
            InferenceFailed: the model failed on one of the texts.
        """
        keys = [key_of(token_ids) for token_ids in texts]
        rows = [None if self._cache is None else self._cache.get(key) for key in keys]
        missing = [index for index, row in enumerate(rows) if row is None]
        new = {keys[index]: texts[index] for index in missing if keys[index] not in self._in_flight}
        self.admit(sum(map(len, new.values())))
        request = PendingRequest(rows, asyncio.get_running_loop())
        pending = [
            self._join(request, index, keys[index], texts[index], deadline_s) for index in missing
        ]
        self._texts_cached.inc(len(texts) - len(missing))
        if to_run := [text for text in dict.fromkeys(pending) if not text.started]:
            self._queue.put(to_run, priority)
            self._has_work.set()
        try:
            return await request.answer
        finally:
            self._leave(pending)

    async def close(self, grace_s: float) -> None:
        """Refuse new requests, finish what was accepted within `grace_s`, fail what is left."""
        self._closing = True
        self._has_work.set()
        if self._workers:
            await asyncio.wait(self._workers, timeout=grace_s)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._fail_all(_shutting_down())

    def _join(
        self,
        request: PendingRequest[RowT],
        index: int,
        key: bytes,
        token_ids: TokenIds,
        deadline_s: float,
    ) -> PendingText[RowT]:
        """Wait for a text that is in flight, or for a new one.

        A text that only waits is queued again by whoever joins: it runs when the first of its
        callers has a turn, and its other places are passed over.
        """
        text = self._in_flight.get(key)
        if text is None:
            text = PendingText(key, token_ids, time.perf_counter(), deadline_s)
            self._in_flight[key] = text
            self._backlog.enter(text.tokens)
            self._texts_computed.inc()
        else:
            self._texts_in_flight.inc()
        text.join(request, index, deadline_s)
        return text

    def _leave(self, texts: Sequence[PendingText[RowT]]) -> None:
        for text in texts:
            if not text.started and not text.has_callers:
                self._forget(text)

    async def _work(self) -> None:
        while True:
            await self._has_work.wait()
            async with self._pool.slot:
                taken = self._queue.take(time.perf_counter())
                for text in taken.expired:
                    self._settle(text, self._refused(_too_late()))
                if taken.batch:
                    await self._run(taken.batch)
                elif self._closing:
                    return
                else:
                    self._has_work.clear()

    async def _run(self, batch: list[PendingText[RowT]]) -> None:
        now_s = time.perf_counter()
        for text in batch:
            text.started = True
            self._backlog.leave(text.tokens)
            self._queue_duration.observe(now_s - text.queued_at_s)
        try:
            outcomes = await self._runner.outcomes(batch)
        except BaseException as end:
            # The worker ends in the middle of a run: nobody may wait for ever.
            stopped = isinstance(end, asyncio.CancelledError)
            for text in batch:
                self._settle(text, _shutting_down() if stopped else _worker_died())
            raise
        self._backlog.note_run(sum(text.tokens for text in batch), time.perf_counter())
        for text, outcome in zip(batch, outcomes, strict=True):
            self._settle(text, outcome)

    def _settle(self, text: PendingText[RowT], outcome: RowT | EncserveError) -> None:
        self._forget(text)
        if isinstance(outcome, EncserveError):
            text.fail(outcome)
            return
        if self._cache is not None:
            self._cache.put(text.key, outcome)
        text.give(outcome)

    def _forget(self, text: PendingText[RowT]) -> None:
        if self._in_flight.get(text.key) is not text:
            return
        del self._in_flight[text.key]
        if not text.started:
            self._backlog.leave(text.tokens)

    def _refused(self, error: EncserveError) -> EncserveError:
        self._metrics.rejected_requests.labels(self._model, error.code).inc()
        return error

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        if not _died(worker):
            return
        # Only the kind is logged: a message may quote what the model was fed.
        kind = type(worker.exception()).__name__
        logger.error("a worker of model %s died of %s", self._model, kind)
        self._fail_all(_worker_died())

    def _fail_all(self, error: EncserveError) -> None:
        self._queue.clear()
        for text in list(self._in_flight.values()):
            self._settle(text, error)


def _died(worker: asyncio.Task[None]) -> bool:
    return worker.done() and not worker.cancelled() and worker.exception() is not None


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the server is shutting down: send the request again later")


def _worker_died() -> InferenceFailed:
    return InferenceFailed("a worker of the model has died: the server must be restarted")


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "the deadline passed while the text waited: send fewer texts at a time, or later"
    )
