"""Admission by tokens: how much waits for a model, how much more may, and when to come back."""

from service.errors import Overloaded, TooManyTokens
from service.metrics import ModelMetrics

# How much the newest run counts in the running means.
SMOOTHING = 0.1
LEAST_RETRY_AFTER_S = 1.0


class Backlog:
    """The texts that wait for a model, each counted once however many callers it has."""

    def __init__(self, max_tokens: int, metrics: ModelMetrics) -> None:
        self._max_tokens = max_tokens
        self._texts = 0
        self._tokens = 0
        self._queue_texts = metrics.queue_texts
        self._queue_tokens = metrics.queue_tokens
        self._last_run_s: float | None = None
        self._tokens_a_run = 0.0
        self._seconds_a_run = 0.0

    @property
    def empty(self) -> bool:
        return not self._texts

    def admit(self, tokens: int) -> None:
        """Raise unless `tokens` more may wait now.

        Raises:
            TooManyTokens: they could never all wait.
            Overloaded: not now.
        """
        if tokens > self._max_tokens:
            raise TooManyTokens(
                f"the request has {tokens} tokens, the limit is {self._max_tokens}: "
                "send fewer texts at a time, or raise ENCSERVE_MAX_QUEUE_TOKENS",
                param="input",
            )
        if self._tokens + tokens > self._max_tokens:
            raise Overloaded(
                f"the queue is full ({self._tokens} of {self._max_tokens} tokens, "
                "ENCSERVE_MAX_QUEUE_TOKENS): send the request again later",
                retry_after_s=max(LEAST_RETRY_AFTER_S, self._tokens * self._seconds_a_token()),
            )

    def enter(self, tokens: int) -> None:
        self._change(1, tokens)

    def leave(self, tokens: int) -> None:
        """A text is run, or nobody waits for it any more."""
        self._change(-1, -tokens)

    def note_run(self, tokens: int, now_s: float) -> None:
        """A batch of `tokens` was finished at `now_s`.

        Wall time between runs is what a queue drains by: it knows of all workers, and of what
        other models take of them. Only time in which something waited tells.
        """
        if self._last_run_s is not None:
            self._tokens_a_run += SMOOTHING * (tokens - self._tokens_a_run)
            self._seconds_a_run += SMOOTHING * (now_s - self._last_run_s - self._seconds_a_run)
        self._last_run_s = now_s if self._tokens else None

    def _seconds_a_token(self) -> float:
        return self._seconds_a_run / self._tokens_a_run if self._tokens_a_run else 0.0

    def _change(self, texts: int, tokens: int) -> None:
        self._texts += texts
        self._tokens += tokens
        # A model's batchers share its gauges.
        self._queue_texts.inc(texts)
        self._queue_tokens.inc(tokens)
