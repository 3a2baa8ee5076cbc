"""Futures, admission, workers and drain: every accepted text is answered exactly once.

Work-conserving: a worker takes what waits the moment it is free, and nothing waits for a batch to
fill. A text in flight is not computed again: whoever else asks for it joins. Requests live on the
event loop, batches in the workers' threads; what both touch is guarded by the pool's lock.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, cast

from service.batching.backlog import Backlog, Lane, lane_of
from service.batching.cache import Cache
from service.batching.in_flight import InFlight
from service.batching.pending import PendingRequest, PendingText, RowT, Timing, TokenIds, key_of
from service.batching.queue import Priority, TokenQueue
from service.batching.refusals import shutting_down, too_late, worker_died
from service.batching.runner import Pack, Run, Runner, WideRun, unpacked
from service.batching.waiting_memory import WaitingMemory
from service.batching.workers import Job, Tell, WorkerPool
from service.errors import EncserveError, Overloaded
from service.metrics import ModelMetrics

logger = logging.getLogger(__name__)


class Batcher(Generic[RowT]):
    """Turns concurrent requests into model runs and hands each row to the callers who asked for it.

    Args:
        run: maps token ids of n texts to n rows; called in the threads of `pool`, side by side.
        pool: the threads; several batchers may share it.
        wide: the same on all cores, for a batch that has the machine for itself.
        cache: rows of earlier texts; without one each text is computed anew.
        model: name for the log.
        max_batch_tokens: budget of one run; a longer text runs alone.
        max_queue_tokens: what may wait before requests are refused.
        max_queue_wait_s: how long, by the measured rate; bulk requests may wait longer.
        max_queue_bytes: what those who wait may hold of memory.
        max_runs: most runs of this model side by side; without it as many as there are workers.
        padded: the model computes on padded batches, see `TokenQueue`.
        pack: makes of the token ids what `run` takes.
    """

    def __init__(
        self,
        run: Run[RowT],
        pool: WorkerPool,
        metrics: ModelMetrics,
        cache: Cache[RowT] | None = None,
        *,
        wide: WideRun[RowT] | None = None,
        model: str,
        max_batch_tokens: int,
        max_queue_tokens: int,
        max_queue_wait_s: float = math.inf,
        max_queue_bytes: float = math.inf,
        max_runs: int | None = None,
        padded: bool = False,
        pack: Pack = unpacked,
    ) -> None:
        self._runner = Runner(run, wide, metrics, pack)
        self._pool = pool
        self._cache = cache
        self._metrics = metrics
        self._model = model
        self._queue: TokenQueue[PendingText[RowT]] = TokenQueue(max_batch_tokens, padded=padded)
        self._backlog = Backlog(max_queue_tokens, max_queue_wait_s, metrics)
        self._memory = WaitingMemory(max_queue_bytes, metrics)
        self._in_flight: InFlight[RowT] = InFlight(self._backlog, self._memory, metrics)
        self.max_batch_tokens = max_batch_tokens
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

    def admit(
        self,
        tokens: int,
        priority: Priority = Priority.INTERACTIVE,
        deadline_s: float = math.inf,
        about_tokens: int = 0,
    ) -> Lane:
        """The lane of so many tokens that are to be computed, or rather of `about_tokens`.

        Raises:
            Overloaded, ShuttingDown, TooManyTokens, InferenceFailed: do not even tokenize.
        """
        if self.broken:
            raise worker_died()
        if not self.serving:
            raise self._refused(shutting_down())
        lane = lane_of(max(tokens, about_tokens), priority, self.max_batch_tokens)
        try:
            self._memory.admit()
            left_s = deadline_s - time.perf_counter()
            self._backlog.admit(tokens, lane, left_s, guessed=about_tokens > 0)
        except Overloaded as error:
            raise self._refused(error) from None
        return lane

    @contextlib.contextmanager
    def place(
        self, priority: Priority, deadline_s: float, least_tokens: int, about_tokens: int
    ) -> Iterator[Callable[[], object]]:
        """A place in the queue for what is tokenized meanwhile; `submit` then takes its own.

        Yields what raises once the work is in vain. Raises as `admit`.
        """
        lane = self.admit(least_tokens, priority, deadline_s, about_tokens)
        with self._backlog.expecting(about_tokens, lane, self._pool.lock):
            yield partial(self.admit, 0)

    async def submit(
        self,
        texts: Sequence[TokenIds],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline_s: float = math.inf,
        timing: Timing | None = None,
    ) -> list[RowT]:
        """The rows of `texts`, in their order. Cancelling the call abandons what is not yet run.

        Args:
            deadline_s: when the caller gives up, on the clock of `time.perf_counter`.
            timing: is told where the time went.

        Raises:
            TooManyTokens: the request is larger than the whole queue.
            Overloaded: not all of it has room now, or it would wait too long, or for longer than
                its deadline; nothing was accepted.
            ShuttingDown: no more requests are accepted.
            DeadlineExceeded: a text still waited at the deadline; it was not computed.
            InferenceFailed: the model failed on one of the texts.
        """
        rows = await self._submit(texts, priority, deadline_s, timing, each=False)
        return cast(list[RowT], rows)

    async def submit_each(
        self,
        texts: Sequence[TokenIds],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline_s: float = math.inf,
        timing: Timing | None = None,
    ) -> list[RowT | EncserveError]:
        """As `submit`, but a text that fails has its error in the place of its row."""
        return await self._submit(texts, priority, deadline_s, timing, each=True)

    async def _submit(
        self,
        texts: Sequence[TokenIds],
        priority: Priority,
        deadline_s: float,
        timing: Timing | None,
        *,
        each: bool,
    ) -> list[RowT | EncserveError]:
        keys = [key_of(token_ids) for token_ids in texts]
        rows = [None if self._cache is None else self._cache.get(key) for key in keys]
        missing = [index for index, row in enumerate(rows) if row is None]
        span = timing.span if timing is not None else None
        request = PendingRequest(rows, asyncio.get_running_loop(), partial=each, span=span)
        with self._pool.lock:
            new = {keys[at]: texts[at] for at in missing if keys[at] not in self._in_flight}
            tokens = sum(map(len, new.values()))
            lane = self.admit(tokens, priority, deadline_s)
            pending = [
                self._in_flight.join(request, at, keys[at], texts[at], deadline_s, lane)
                for at in missing
            ]
            if to_run := [text for text in dict.fromkeys(pending) if not text.started]:
                self._queue.put(to_run, priority)
                self._pool.wake()
        self._metrics.texts_cached.inc(len(texts) - len(missing))
        try:
            return await request.answer
        finally:
            self._leave(pending)
            if timing is not None:
                timing.note(pending, len(texts))

    async def close(self, grace_s: float) -> None:
        """Refuse new requests, finish what was accepted within `grace_s`, fail what is left."""
        self._closing = True
        self._note_if_drained()
        if self._loop is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), timeout=grace_s)
        self._pool.remove(self)
        self._fail_all(shutting_down())

    def take(self, *, express: bool) -> Job | None:
        """The next batch as a job; see `Source.take`."""
        if self._runs == self._max_runs and not express:
            return None
        now_s = time.perf_counter()
        taken = self._queue.take(now_s, express=express)
        if expired := list(dict.fromkeys(taken.expired)):
            # Forgotten here and now, so that nobody joins them any more.
            for text in expired:
                self._in_flight.forget(text)
            self._post(partial(self._fail_expired, expired))
        if not taken.batch:
            return None
        self._runs += not express
        if not self._backlog.empty:
            # One worker wakes the next: nobody can tell how many batches the work makes.
            self._pool.wake()
        for text in taken.batch:
            text.started = True
            text.queue_s = now_s - text.queued_at_s
            self._backlog.leave(text.tokens, text.lane)
        alone = self._pool.calm and self._backlog.empty
        long = not express and sum(text.tokens for text in taken.batch) > self.max_batch_tokens
        return Job(partial(self._run, taken.batch, alone, express), long, self._model)

    def give_up(self, error: BaseException) -> None:
        """A worker met what no handler catches: nobody may wait for ever; see `Source.give_up`."""
        # Only the kind is logged: a message may quote what the model was fed.
        logger.error("a run of model %s ended in %s", self._model, type(error).__name__)
        self._broken = True
        self._post(partial(self._fail_all, worker_died()))

    def _leave(self, texts: Sequence[PendingText[RowT]]) -> None:
        with self._pool.lock:
            self._in_flight.leave(texts)
        self._note_if_drained()

    def _run(self, batch: list[PendingText[RowT]], alone: bool, express: bool) -> Tell:
        """In a worker's thread: the outcomes go back to the event loop in one call."""
        outcomes = self._runner.run(batch, alone=alone)
        with self._pool.lock:
            self._runs -= not express
        return partial(self._post, partial(self._settle_batch, batch, outcomes))

    def _post(self, call: Callable[[], None]) -> None:
        """Let the event loop do it. A loop that is closed has nobody left who waits."""
        assert self._loop
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _fail_expired(self, texts: Sequence[PendingText[RowT]]) -> None:
        for text in texts:
            text.fail(self._refused(too_late()))
        self._note_if_drained()

    def _settle_batch(
        self, batch: list[PendingText[RowT]], outcomes: list[RowT | EncserveError]
    ) -> None:
        with self._pool.lock:
            self._backlog.note_run(sum(text.tokens for text in batch), time.perf_counter())
            for text in batch:
                self._in_flight.forget(text)
        for text, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, EncserveError):
                text.fail(outcome)
                continue
            if self._cache is not None:
                self._cache.put(text.key, outcome)
            text.give(outcome)
        self._note_if_drained()

    def _refused(self, error: EncserveError) -> EncserveError:
        self._metrics.rejected(error.code)
        return error

    def _fail_all(self, error: EncserveError) -> None:
        with self._pool.lock:
            self._queue.clear()
            texts = self._in_flight.clear()
        for text in texts:
            text.fail(error)
        self._note_if_drained()

    def _note_if_drained(self) -> None:
        if self._closing and not self._in_flight:
            self._drained.set()
