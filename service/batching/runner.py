"""One batch through the model: an outcome for each of its texts, whatever happens to the others."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from service.batching.pending import PendingText, RowT, TokenIds
from service.errors import EncserveError, InferenceFailed
from service.metrics import ModelMetrics

logger = logging.getLogger(__name__)

# From a batch's token ids to what the model's run takes, which is timed apart.
Pack = Callable[[Sequence[TokenIds]], Any]
Run = Callable[[Any], Collection[RowT]]


def unpacked(texts: Sequence[TokenIds]) -> Sequence[TokenIds]:
    """For runs that take the token ids as they are."""
    return texts


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
        pack: makes what both take.
    """

    def __init__(
        self,
        run: Run[RowT],
        wide: WideRun[RowT] | None,
        metrics: ModelMetrics,
        pack: Pack = unpacked,
    ) -> None:
        self._run = run
        self._pack = pack
        self._wide = wide or WideRun(run, least_tokens=1)
        self._metrics = metrics

    def run(self, batch: list[PendingText[RowT]], *, alone: bool) -> list[RowT | EncserveError]:
        """`outcomes`; each text is told how long it took, and the span of its batch."""
        started_s = time.perf_counter()
        outcomes = self.outcomes(batch, alone=alone)
        ended_s = time.perf_counter()
        for text in batch:
            text.infer_s = ended_s - started_s
            self._metrics.queue_duration.observe(text.queue_s)
        if self._metrics.traces_batches:
            self._trace(batch, outcomes, started_s, ended_s)
        return outcomes

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
        self._metrics.ran([text.tokens for text in batch])
        started_s = time.perf_counter()
        packed = self._pack([text.token_ids for text in batch])
        packed_s = time.perf_counter()
        self._metrics.pack_duration.observe(packed_s - started_s)
        try:
            rows = run(packed)
        finally:
            self._metrics.infer_duration.observe(time.perf_counter() - packed_s)
        if len(rows) != len(batch):
            raise InferenceFailed(f"the model returned {len(rows)} rows for {len(batch)} texts")
        return rows

    def _trace(
        self,
        batch: list[PendingText[RowT]],
        outcomes: list[RowT | EncserveError],
        started_s: float,
        ended_s: float,
    ) -> None:
        """Callers may still join on the event loop: those who are there now are linked."""
        callers = {request.span: None for text in batch for request, _ in list(text.callers)}
        spans = [span for span in callers if span is not None]
        if not spans:
            return
        failed = sum(isinstance(outcome, EncserveError) for outcome in outcomes)
        lengths = [text.tokens for text in batch]
        try:
            run = self._metrics.trace_batch(lengths, failed, started_s, ended_s, spans)
        except Exception as error:  # whatever tracing comes to, the rows are there
            logger.error("a batch could not be traced: %s", type(error).__name__)
            return
        for text in batch:
            text.run = run


def _as_ours(error: Exception) -> EncserveError:
    if isinstance(error, EncserveError):
        return error
    # Only the kind is logged: a message of the runtime may quote what it was fed.
    logger.error("a model run failed: %s", type(error).__name__)
    return InferenceFailed("the model could not answer for this text")
