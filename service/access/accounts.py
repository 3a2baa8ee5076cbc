"""What a key may still take: tokens a minute, and a share of what may wait at once."""

import logging
import math
import time
from collections.abc import Callable

from service.access.keys import Key
from service.errors import RateLimited, TooManyTokens
from service.metrics import Metrics

logger = logging.getLogger(__name__)

Clock = Callable[[], float]

MINUTE_S = 60.0
# When a caller's own texts will be answered is not known; in a second some of them are.
SHARE_RETRY_S = 1.0
# A caller that goes on asking fills no log.
LOG_EVERY_S = 60.0


class Allowance:
    """Tokens that come back evenly, as many a minute as there are at most."""

    def __init__(self, tokens_per_minute: int, clock: Clock) -> None:
        self.tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._left = float(tokens_per_minute)
        self._at_s = clock()

    @property
    def left(self) -> int:
        return int(self._filled())

    @property
    def full_in_s(self) -> float:
        return self.wait_s(self.tokens_per_minute)

    def wait_s(self, tokens: int) -> float:
        """Until so many are there; 0 if they are."""
        return max(0.0, tokens - self._filled()) * MINUTE_S / self.tokens_per_minute

    def take(self, tokens: int) -> None:
        """Also more than there are: it is checked before."""
        self._left = self._filled() - tokens

    def _filled(self) -> float:
        now_s = self._clock()
        came = (now_s - self._at_s) * self.tokens_per_minute / MINUTE_S
        self._left, self._at_s = min(self.tokens_per_minute, self._left + came), now_s
        return self._left


class KeyAccount:
    """The account of one key, for the requests of one event loop.

    Args:
        max_queue_tokens: that may wait for a model, of which the key has its share.
    """

    def __init__(
        self, key: Key, max_queue_tokens: int, metrics: Metrics, clock: Clock = time.monotonic
    ) -> None:
        self.name = key.name
        self.allowance = (
            None if key.tokens_per_minute is None else Allowance(key.tokens_per_minute, clock)
        )
        # All of the queue is no limit of a key's: the queue says itself that it is full, which is
        # the server's fault and not the caller's.
        self._max_held = math.inf if key.share == 1 else max(1, int(key.share * max_queue_tokens))
        self._held = 0
        self._clock = clock
        self._logged_at_s: float | None = None
        self.requests = metrics.key_requests.labels(key.name)
        self._tokens = metrics.key_tokens.labels(key.name)
        self._refusals = {
            reason: metrics.key_refusals.labels(key.name, reason) for reason in ("rate", "share")
        }

    def check(self, tokens: int, about: int = 0, *, beside: int = 0, holding: int = 0) -> None:
        """Raise unless so many tokens may be taken now.

        Args:
            about: what it will rather be, to say when to come back.
            beside: tokens that the same request has taken already.
            holding: those of them that are still under way.

        Raises:
            TooManyTokens: never, for one request.
            RateLimited: not now.
        """
        allowance = self.allowance
        if allowance is not None and tokens + beside > allowance.tokens_per_minute:
            raise TooManyTokens(
                f"the request takes {tokens + beside} tokens, key {self.name!r} may send "
                f"{allowance.tokens_per_minute} a minute: send fewer texts at a time, or have the "
                "key's tokens_per_minute raised",
                param="input",
            )
        if tokens + holding > self._max_held:
            raise TooManyTokens(
                f"the request takes {tokens + holding} tokens at once, the share of key "
                f"{self.name!r} in the queue is {self._max_held}: send fewer texts at a time, or "
                "have the key's share raised",
                param="input",
            )
        if allowance is not None and allowance.wait_s(tokens) > 0:
            wait_s = allowance.wait_s(min(max(tokens, about), allowance.tokens_per_minute))
            raise self._refused(
                "rate",
                f"key {self.name!r} may send {allowance.tokens_per_minute} tokens a minute and has "
                f"{max(0, allowance.left)} left: send the request again later",
                wait_s,
            )
        if self._held + tokens > self._max_held:
            raise self._refused(
                "share",
                f"key {self.name!r} has {self._held} tokens under way, its share of the queue is "
                f"{self._max_held}: send fewer requests side by side",
                SHARE_RETRY_S,
            )

    def take(self, tokens: int) -> None:
        """They are under way from now on, until `release`."""
        self._held += tokens
        if self.allowance is not None:
            self.allowance.take(tokens)

    def release(self, tokens: int) -> None:
        """They are under way no more."""
        self._held -= tokens

    def give_back(self, tokens: int) -> None:
        """They were taken, and nothing came of it."""
        if self.allowance is not None:
            self.allowance.take(-tokens)

    def count(self, tokens: int) -> None:
        """They were taken, and answered."""
        self._tokens.inc(tokens)

    def _refused(self, reason: str, message: str, retry_after_s: float) -> RateLimited:
        self._refusals[reason].inc()
        now_s = self._clock()
        if self._logged_at_s is None or now_s - self._logged_at_s >= LOG_EVERY_S:
            self._logged_at_s = now_s
            logger.warning("key %s is over its %s limit", self.name, reason)
        return RateLimited(message, retry_after_s=retry_after_s)
