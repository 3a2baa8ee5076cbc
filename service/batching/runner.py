"""One batch through the model: an outcome for each of its texts, whatever happens to the others."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Generic

from service.batching.pending import PendingText, RowT, TokenIds
from service.batching.workers import WorkerPool
from service.errors import EncserveError, InferenceFailed
from service.metrics import Metrics

logger = logging.getLogger(__name__)

Run = Callable[[Sequence[TokenIds]], Collection[RowT]]


class Runner(Generic[RowT]):
    """Runs batches in threads of `pool`, and counts and times them as `model`."""

    def __init__(self, run: Run[RowT], pool: WorkerPool, metrics: Metrics, model: str) -> None:
        self._run = run
        self._pool = pool
        self._batch_texts = metrics.batch_texts.labels(model)
        self._batch_tokens = metrics.batch_tokens.labels(model)
        self._duration = metrics.stage_duration.labels(model, "infer")

    async def outcomes(self, batch: list[PendingText[RowT]]) -> list[RowT | EncserveError]:
        """A row or an error a text, in their order.

        A failing batch is run again text by text: only the text at fault fails.
        """
        try:
            return list(await self._infer(batch))
        except Exception as error:
            if len(batch) == 1:
                return [_as_ours(error)]
        return [(await self.outcomes([text]))[0] for text in batch]

    async def _infer(self, batch: list[PendingText[RowT]]) -> Collection[RowT]:
        self._batch_texts.observe(len(batch))
        self._batch_tokens.observe(sum(text.tokens for text in batch))
        started_s = time.perf_counter()
        try:
            rows = await self._pool.run(self._run, [text.token_ids for text in batch])
        finally:
            self._duration.observe(time.perf_counter() - started_s)
        if len(rows) != len(batch):
            raise InferenceFailed(f"the model returned {len(rows)} rows for {len(batch)} texts")
        return rows


def _as_ours(error: Exception) -> EncserveError:
    if isinstance(error, EncserveError):
        return error
    # Only the kind is logged: a message of the runtime may quote what it was fed.
    logger.error("a model run failed: %s", type(error).__name__)
    return InferenceFailed("the model could not answer for this text")
