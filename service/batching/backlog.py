"""Admission by tokens: how much waits for a model, for how long, and when to come back."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NewType

from service.batching.queue import Priority, size_of
from service.batching.rate import DrainRate
from service.errors import Overloaded, TooManyTokens
from service.metrics import ModelMetrics

LEAST_RETRY_AFTER_S = 1.0


# Where a request stands in the queue, see `TokenQueue`: by its size, or behind all the others.
Lane = NewType("Lane", int)
SHORT, BULK = Lane(0), Lane(-1)
# Beside a guessed lane: texts have half to four times as many tokens as their characters foretell.
LANES_GUESSED = range(-1, 3)


def lane_of(tokens: int, priority: Priority, max_batch_tokens: int) -> Lane:
    """The lane of a request with so many tokens."""
    return BULK if priority is Priority.BULK else Lane(size_of(tokens, max_batch_tokens))


class Backlog:
    """The texts that wait for a model, each counted once however many callers it has.

    Args:
        max_tokens: what may wait at all.
        max_wait_s: longest wait that a request may find before it; bulk requests may wait longer.
    """

    def __init__(self, max_tokens: int, max_wait_s: float, metrics: ModelMetrics) -> None:
        self._max_tokens = max_tokens
        self._max_wait_s = max_wait_s
        self._texts = self._tokens = 0
        self._waiting: Counter[Lane] = Counter()
        self._rate = DrainRate()
        metrics.queue_texts.add(lambda: self._texts)
        metrics.queue_tokens.add(lambda: self._tokens)
        metrics.queue_wait.add(lambda: self.wait_s(SHORT))

    @property
    def empty(self) -> bool:
        return not self._texts

    def wait_s(self, lane: Lane, *, guessed: bool = False) -> float:
        """How long a new request of `lane` would wait, by what is before it and how fast that goes.

        0 before any rate is known.

        Args:
            guessed: the lane is, from the text's characters: what stands in those beside it is
                before it, too. Else all were tokenized to be refused whose guess is an empty lane.
        """
        return self._until(lane, 0, guessed) * self._rate.seconds_a_token

    def admit(
        self, tokens: int, lane: Lane, time_left_s: float = math.inf, *, guessed: bool = False
    ) -> None:
        """Raise unless `tokens` more may wait now; `guessed` as for `wait_s`.

        A request that finds nothing before it is always admitted, whatever was measured: a rate
        from worse times must not refuse what would measure it anew.

        Raises:
            TooManyTokens: they could never all wait.
            Overloaded: not now, or not before their deadline.
        """
        if tokens > self._max_tokens:
            raise TooManyTokens(
                f"the request has {tokens} tokens, the limit is {self._max_tokens}: "
                "send fewer texts at a time, or raise ENCSERVE_MAX_QUEUE_TOKENS",
                param="input",
            )
        waiting = sum(self._waiting.values())
        if waiting + tokens > self._max_tokens:
            raise _overloaded(
                f"the queue is full ({waiting} of {self._max_tokens} tokens, "
                "ENCSERVE_MAX_QUEUE_TOKENS)",
                waiting * self._rate.seconds_a_token,
            )
        wait_s = self.wait_s(lane, guessed=guessed)
        if not (tokens and wait_s):
            return
        if wait_s > self._max_wait_s and lane != BULK:
            raise _overloaded(
                f"a new request would wait for {wait_s:.1f} s, the limit is {self._max_wait_s:g} s "
                "(ENCSERVE_MAX_QUEUE_WAIT_S)",
                wait_s,
            )
        answered_s = self._until(lane, tokens, guessed) * self._rate.seconds_a_token
        if answered_s > time_left_s:
            raise _overloaded(
                f"the answer would take {answered_s:.1f} s, the request's time is over in "
                f"{max(0.0, time_left_s):.1f} s",
                wait_s,
            )

    def enter(self, tokens: int, lane: Lane) -> None:
        self._change(1, tokens, lane)

    def leave(self, tokens: int, lane: Lane) -> None:
        """A text is run, or nobody waits for it any more."""
        self._change(-1, -tokens, lane)

    def note_run(self, tokens: int, now_s: float) -> None:
        """A batch of `tokens` was finished at `now_s`."""
        self._rate.note_run(tokens, now_s, waiting=not self.empty)

    @contextmanager
    def expecting(
        self, tokens: int, lane: Lane, lock: AbstractContextManager[object]
    ) -> Iterator[None]:
        """About so many come at the end of the block: what comes meanwhile waits for them, too.

        They are no texts yet, and in no gauge. Else all that come while one is tokenized would
        find the queue as that one did, and most of them be refused after the work.

        Args:
            lock: taken for moments only.
        """
        with lock:
            self._waiting[lane] += tokens
        try:
            yield
        finally:
            with lock:
                self._waiting[lane] -= tokens

    def _until(self, lane: Lane, own_tokens: int, guessed: bool) -> int:
        """Tokens that run until so many of a new request of `lane` have.

        Short requests take turns with all larger ones, and those with each other size: of others
        no more runs than of one's own lane meanwhile.
        """
        if lane == BULK:
            return sum(self._waiting.values()) + own_tokens
        # At once, as a scrape may ask while another thread counts.
        waiting = {at: tokens for at, tokens in tuple(self._waiting.items()) if at != BULK}
        short = waiting.pop(SHORT, 0)
        if lane == SHORT:
            in_lane = short + own_tokens
            return in_lane + min(in_lane, sum(waiting.values()))
        beside = LANES_GUESSED if guessed else range(1)
        in_lane = own_tokens + sum(waiting.pop(Lane(lane + at), 0) for at in beside)
        together = in_lane + sum(min(in_lane, tokens) for tokens in waiting.values())
        return together + min(together, short)

    def _change(self, texts: int, tokens: int, lane: Lane) -> None:
        self._texts += texts
        self._tokens += tokens
        self._waiting[lane] += tokens


def _overloaded(reason: str, drained_s: float) -> Overloaded:
    return Overloaded(
        f"{reason}: send the request again later",
        retry_after_s=max(LEAST_RETRY_AFTER_S, drained_s),
    )
