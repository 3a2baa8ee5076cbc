"""Futures, admission, workers and drain: every accepted text is answered exactly once.

Work-conserving: a worker takes what waits the moment it is free, and nothing waits for a batch to
fill. A text in flight is not computed again: whoever else asks for it joins.

Requests live on the event loop; batches are taken and run in the workers' threads. What both touch
(the queue, the backlog, which texts are in flight and started) is guarded by the pool's lock.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic

from service.batching.backlog import Backlog
from service.batching.cache import Cache
from service.batching.pending import PendingRequest, PendingText, RowT, TokenIds, key_of
from service.batching.queue import Priority, TokenQueue
from service.batching.runner import Run, Runner, WideRun
from service.batching.workers import Job, WorkerPool
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
        run: maps token ids of n texts to n rows; called in the threads of `pool`, side by side.
        pool: the threads; several batchers may share it.
        wide: the same on all cores, for a batch that has the machine for itself.
        cache: rows of earlier texts; without one each text is computed anew.
        model: name for metrics.
        max_batch_tokens: budget of one run; a longer text runs alone.
        max_queue_tokens: what may wait before requests are refused.
        max_runs: most runs of this model side by side; without it as many as there are workers.
        padded: the model computes on padded batches, see `TokenQueue`.
    """

    def __init__(
        self,
        run: Run[RowT],
        pool: WorkerPool,
        metrics: Metrics,
        cache: Cache[RowT] | None = None,
        *,
        wide: WideRun[RowT] | None = None,
        model: str,
        max_batch_tokens: int,
        max_queue_tokens: int,
        max_runs: int | None = None,
        padded: bool = False,
    ) -> None:
        self._runner = Runner(run, wide, metrics, model)
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
        self._max_batch_tokens = max_batch_tokens
        self._max_runs = max_runs
        self._runs = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drained = asyncio.Event()
        self._closing = False
        self._broken = False

    @property
    def serving(self) -> bool:
        """True while the workers are asked for and new requests are accepted."""
        return self._loop is not None and not self._closing and not self._broken

    @property
    def broken(self) -> bool:
        """True once a run has ended in what no handler catches; only a restart mends that."""
        return self._broken

    def start(self) -> None:
        """Let the workers ask for batches; needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._pool.add(self)

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
        request = PendingRequest(rows, asyncio.get_running_loop())
        with self._pool.lock:
            new = {keys[at]: texts[at] for at in missing if keys[at] not in self._in_flight}
            self.admit(sum(map(len, new.values())))
            pending = [self._join(request, at, keys[at], texts[at], deadline_s) for at in missing]
            if to_run := [text for text in dict.fromkeys(pending) if not text.started]:
                self._queue.put(to_run, priority)
                self._pool.wake()
        self._texts_cached.inc(len(texts) - len(missing))
        try:
            return await request.answer
        finally:
            self._leave(pending)

    async def close(self, grace_s: float) -> None:
        """Refuse new requests, finish what was accepted within `grace_s`, fail what is left."""
        self._closing = True
        self._note_if_drained()
        if self._loop is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), timeout=grace_s)
        self._pool.remove(self)
        self._fail_all(_shutting_down())

    def take(self, *, express: bool) -> Job | None:
        """The next batch as a job for a worker, or None; see `Source.take`."""
        if self._runs == self._max_runs and not express:
            return None
        now_s = time.perf_counter()
        taken = self._queue.take(now_s, express=express)
        if expired := list(dict.fromkeys(taken.expired)):
            # Forgotten here and now, so that nobody joins them any more.
            for text in expired:
                self._forget(text)
            self._post(partial(self._fail_expired, expired))
        if not taken.batch:
            return None
        self._runs += not express
        if not self._backlog.empty:
            # One worker wakes the next, as long as there is work: nobody can tell beforehand how
            # many batches it makes.
            self._pool.wake()
        for text in taken.batch:
            text.started = True
            self._backlog.leave(text.tokens)
            self._queue_duration.observe(now_s - text.queued_at_s)
        alone = self._pool.others_idle and self._backlog.empty
        long = sum(text.tokens for text in taken.batch) > self._max_batch_tokens
        return Job(partial(self._run, taken.batch, alone, express), long and not express)

    def give_up(self, error: BaseException) -> None:
        """A worker met what no handler catches: nobody may wait for ever; see `Source.give_up`."""
        # Only the kind is logged: a message may quote what the model was fed.
        logger.error("a run of model %s ended in %s", self._model, type(error).__name__)
        self._broken = True
        self._post(partial(self._fail_all, _worker_died()))

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
        with self._pool.lock:
            for text in texts:
                if not text.started and not text.has_callers:
                    self._forget(text)
        self._note_if_drained()

    def _run(self, batch: list[PendingText[RowT]], alone: bool, express: bool) -> None:
        """In a worker's thread: the outcomes go back to the event loop in one call."""
        outcomes = self._runner.outcomes(batch, alone=alone)
        with self._pool.lock:
            self._runs -= not express
        self._post(partial(self._settle_batch, batch, outcomes))

    def _post(self, call: Callable[[], None]) -> None:
        """Let the event loop do it. A loop that is closed has nobody left who waits."""
        assert self._loop
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _fail_expired(self, texts: Sequence[PendingText[RowT]]) -> None:
        for text in texts:
            text.fail(self._refused(_too_late()))
        self._note_if_drained()

    def _settle_batch(
        self, batch: list[PendingText[RowT]], outcomes: list[RowT | EncserveError]
    ) -> None:
        with self._pool.lock:
            self._backlog.note_run(sum(text.tokens for text in batch), time.perf_counter())
            for text in batch:
                self._forget(text)
        for text, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, EncserveError):
                text.fail(outcome)
                continue
            if self._cache is not None:
                self._cache.put(text.key, outcome)
            text.give(outcome)
        self._note_if_drained()

    def _forget(self, text: PendingText[RowT]) -> None:
        """The text is in flight no more; call with the lock held."""
        if self._in_flight.get(text.key) is not text:
            return
        del self._in_flight[text.key]
        if not text.started:
            self._backlog.leave(text.tokens)

    def _refused(self, error: EncserveError) -> EncserveError:
        self._metrics.rejected_requests.labels(self._model, error.code).inc()
        return error

    def _fail_all(self, error: EncserveError) -> None:
        with self._pool.lock:
            self._queue.clear()
            texts = list(self._in_flight.values())
            for text in texts:
                self._forget(text)
        for text in texts:
            text.fail(error)
        self._note_if_drained()

    def _note_if_drained(self) -> None:
        if self._closing and not self._in_flight:
            self._drained.set()


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the server is shutting down: send the request again later")


def _worker_died() -> InferenceFailed:
    return InferenceFailed("a worker of the model has died: the server must be restarted")


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "the deadline passed while the text waited: send fewer texts at a time, or later"
    )
