"""The texts of a model that are not yet answered: each once, however many callers it has."""

import time
from collections.abc import Sequence
from typing import Generic

from service.batching.backlog import Backlog, Lane
from service.batching.pending import PendingRequest, PendingText, RowT, TokenIds
from service.batching.waiting_memory import WaitingMemory
from service.metrics import ModelMetrics


class InFlight(Generic[RowT]):
    """Texts by their key; those not yet started count in `backlog`, their callers in `memory`.

    Every method is called with the lock of the worker pool held.
    """

    def __init__(self, backlog: Backlog, memory: WaitingMemory, metrics: ModelMetrics) -> None:
        self._backlog = backlog
        self._memory = memory
        self._metrics = metrics
        self._texts: dict[bytes, PendingText[RowT]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, key: bytes) -> bool:
        return key in self._texts

    def join(
        self,
        request: PendingRequest[RowT],
        index: int,
        key: bytes,
        token_ids: TokenIds,
        deadline_s: float,
        lane: Lane,
    ) -> PendingText[RowT]:
        """Wait for a text that is in flight, or for a new one.

        A text that only waits is queued again by whoever joins: it runs when the first of its
        callers has a turn, and its other places are passed over.
        """
        text = self._texts.get(key)
        if text is None:
            text = PendingText(key, token_ids, lane, time.perf_counter(), deadline_s)
            self._texts[key] = text
            self._backlog.enter(text.tokens, lane)
            self._metrics.texts_computed.inc()
        else:
            self._metrics.texts_in_flight.inc()
        text.join(request, index, deadline_s)
        self._memory.hold(text.tokens)
        return text

    def leave(self, texts: Sequence[PendingText[RowT]]) -> None:
        """A caller of `texts` waits no more: what nobody waits for is not computed."""
        for text in texts:
            self._memory.release(text.tokens)
            if not text.started and not text.has_callers:
                self.forget(text)

    def forget(self, text: PendingText[RowT]) -> None:
        """The text is in flight no more; nobody can join it."""
        if self._texts.get(text.key) is not text:
            return
        del self._texts[text.key]
        if not text.started:
            self._backlog.leave(text.tokens, text.lane)

    def clear(self) -> list[PendingText[RowT]]:
        """Forget all texts, and return them."""
        texts = list(self._texts.values())
        for text in texts:
            self.forget(text)
        return texts
