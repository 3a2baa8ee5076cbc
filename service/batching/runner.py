"""One batch through the model: an outcome for each of its texts, whatever happens to the others."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic

from service.batching.pending import PendingText, RowT, TokenIds
from service.errors import EncserveError, InferenceFailed
from service.metrics import ModelMetrics

logger = logging.getLogger(__name__)

Run = Callable[[Sequence[TokenIds]], Collection[RowT]]


@dataclass(frozen=True)
class WideRun(Generic[RowT]):
    """A run that uses all cores, worth it for batches of `least_tokens` or more."""

    run: Run[RowT]
    least_tokens: int


class Runner(Generic[RowT]):
    """Runs batches in the thread that calls, and counts and times them.

    Args:
        run: uses one core.
        wide: for a batch that has the machine for itself.
    """

    def __init__(self, run: Run[RowT], wide: WideRun[RowT] | None, metrics: ModelMetrics) -> None:
        self._run = run
        self._wide = wide or WideRun(run, least_tokens=1)
        self._metrics = metrics

    def outcomes(
        self, batch: list[PendingText[RowT]], *, alone: bool = False
    ) -> list[RowT | EncserveError]:
        """A row or an error a text, in their order.

        A failing batch is run again text by text: only the text at fault fails.

        Args:
            alone: no other run is under way, and no text of this model waits.
        """
        try:
            return list(self._infer(batch, alone))
        except Exception as error:
            if len(batch) == 1:
                return [_as_ours(error)]
        return [self.outcomes([text])[0] for text in batch]

    def _infer(self, batch: list[PendingText[RowT]], alone: bool) -> Collection[RowT]:
        tokens = sum(text.tokens for text in batch)
        run = self._wide.run if alone and tokens >= self._wide.least_tokens else self._run
        self._metrics.batch_texts.observe(len(batch))
        self._metrics.batch_tokens.observe(tokens)
        started_s = time.perf_counter()
        try:
            rows = run([text.token_ids for text in batch])
        finally:
            self._metrics.infer_duration.observe(time.perf_counter() - started_s)
        if len(rows) != len(batch):
            raise InferenceFailed(f"the model returned {len(rows)} rows for {len(batch)} texts")
        return rows


def _as_ours(error: Exception) -> EncserveError:
    if isinstance(error, EncserveError):
        return error
    # Only the kind is logged: a message of the runtime may quote what it was fed.
    logger.error("a model run failed: %s", type(error).__name__)
    return InferenceFailed("the model could not answer for this text")
