"""Who waits for what: one text may answer several callers, and one caller waits for many texts."""

import asyncio
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from service.batching.backlog import Lane
from service.errors import EncserveError

TokenIds = Sequence[int]
RowT = TypeVar("RowT")


def key_of(token_ids: TokenIds) -> bytes:
    """The same for the same text, and for no other."""
    return array("I", token_ids).tobytes()


@dataclass(slots=True)
class Timing:
    """Where a request's time went: the mean of its texts, nothing for those that were cached.

    queue_s: from admission to the start of a text's run. infer_s: the run.
    done_at_s: when all rows were there, or the caller gave up, on the clock of `time.perf_counter`.
    span: of a request that is traced; opaque here. Only then are known
    run_from_s: when the first of its runs began; runs: the spans of all of them.
    """

    queue_s: float = 0.0
    infer_s: float = 0.0
    done_at_s: float = 0.0
    span: object | None = None
    run_from_s: float = 0.0
    runs: list[object] = field(default_factory=list)

    def note(self, computed: "Sequence[PendingText[Any]]", texts: int) -> None:
        """A request of so many texts is over; those that were not cached are `computed`."""
        self.queue_s = sum(text.queue_s for text in computed) / texts
        self.infer_s = sum(text.infer_s for text in computed) / texts
        self.done_at_s = time.perf_counter()
        if self.span is None:
            return
        began = [text.queued_at_s + text.queue_s for text in computed if text.started]
        self.run_from_s = min(began, default=0.0)
        self.runs = list(dict.fromkeys(text.run for text in computed if text.run is not None))


class PendingRequest(Generic[RowT]):
    """A caller who waits for its rows: answered when all are there.

    Args:
        rows: a row a text, None where it is still to come.
        partial: the error of a text takes the place of its row; else it fails the request.
        span: see `Timing`.
    """

    __slots__ = ("_missing", "_partial", "_rows", "answer", "span")

    def __init__(
        self,
        rows: Sequence[RowT | None],
        loop: asyncio.AbstractEventLoop,
        *,
        partial: bool = False,
        span: object | None = None,
    ) -> None:
        self.span = span
        self.answer: asyncio.Future[list[RowT | EncserveError]] = loop.create_future()
        self._rows: list[RowT | EncserveError | None] = list(rows)
        self._missing = sum(row is None for row in rows)
        self._partial = partial
        self._answer_if_complete()

    def give(self, index: int, row: RowT) -> None:
        self._settle(index, row)

    def fail(self, index: int, error: EncserveError) -> None:
        if self._partial:
            self._settle(index, error)
        elif not self.answer.done():
            self.answer.set_exception(error)

    def _settle(self, index: int, outcome: RowT | EncserveError) -> None:
        self._rows[index] = outcome
        self._missing -= 1
        self._answer_if_complete()

    def _answer_if_complete(self) -> None:
        if not self._missing and not self.answer.done():
            self.answer.set_result(cast(list[RowT | EncserveError], self._rows))


@dataclass(slots=True, eq=False)
class PendingText(Generic[RowT]):
    """A text that is to be computed once, for all its callers.

    callers: who waits, and for which of its rows.
    lane: of the first of them.
    started: a worker has it: callers may still join, but no other worker may take it.
    queue_s, infer_s: see `Timing`; known once it is computed.
    run: the span of its batch, if one of the callers is traced.
    """

    # Out of the repr: a log line of some library may print it.
    key: bytes = field(repr=False)
    token_ids: TokenIds = field(repr=False)
    lane: Lane
    queued_at_s: float
    deadline_s: float
    started: bool = False
    queue_s: float = 0.0
    infer_s: float = 0.0
    run: object | None = None
    callers: list[tuple[PendingRequest[RowT], int]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return len(self.token_ids)

    @property
    def has_callers(self) -> bool:
        return any(not request.answer.done() for request, _ in self.callers)

    @property
    def wanted(self) -> bool:
        return not self.started and self.has_callers

    def join(self, request: PendingRequest[RowT], index: int, deadline_s: float) -> None:
        self.callers.append((request, index))
        self.deadline_s = max(self.deadline_s, deadline_s)

    def give(self, row: RowT) -> None:
        for request, index in self.callers:
            request.give(index, row)

    def fail(self, error: EncserveError) -> None:
        for request, index in self.callers:
            request.fail(index, error)
