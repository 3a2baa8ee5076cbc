"""A share of a model's requests for another version, taken back by itself when it does worse."""

import hashlib
from collections import deque
from dataclasses import dataclass, field
from statistics import median

from service.engine import Engine

REQUEST_ID = "x-request-id"
# Outcomes that are the model's fault.
FAILURES = frozenset({"inference_failed", "non_finite_output", "internal_error"})
# What a canary may be taken back for.
FAULTS = ("failures", "latency")
WINDOW_REQUESTS = 300
# Before so many requests of each, chance alone could decide.
LEAST_REQUESTS = 50
MOST_MORE_FAILURES = 0.02
MOST_TIMES_SLOWER = 2.0
# Below this a difference is the machine's, not the model's.
LEAST_SLOWER_S = 0.005


@dataclass
class Side:
    """The last requests of one version: did each fail, and how long did it take?"""

    failed: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW_REQUESTS))
    duration_s: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_REQUESTS))

    def note(self, outcome: str, duration_s: float) -> None:
        """Requests that failed for another reason, such as a blank text, tell nothing."""
        if outcome == "ok":
            self.failed.append(False)
            self.duration_s.append(duration_s)
        elif outcome in FAILURES:
            self.failed.append(True)

    @property
    def failure_rate(self) -> float:
        return sum(self.failed) / len(self.failed) if self.failed else 0.0


@dataclass
class Canary:
    """Which requests go to `engine` instead of the version that serves, and how both do.

    share: of the requests, from 0 to 1. header: whose value decides, so that one caller always gets
        the same version.
    """

    engine: Engine
    share: float
    header: str = REQUEST_ID
    of_canary: Side = field(default_factory=Side)
    of_served: Side = field(default_factory=Side)

    def takes(self, key: str) -> bool:
        """Does the request with this value of the header go to the canary? Always the same."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8]) < self.share * 2**64

    def note(self, version: str, outcome: str, duration_s: float) -> None:
        """A request was answered by `version`."""
        side = self.of_canary if version == self.engine.version else self.of_served
        side.note(outcome, duration_s)

    def fault(self) -> str | None:
        """Why the canary should be taken back, in a few words; None as long as it does well."""
        new, old = self.of_canary, self.of_served
        if min(len(new.failed), len(old.failed)) < LEAST_REQUESTS:
            return None
        if new.failure_rate > old.failure_rate + MOST_MORE_FAILURES:
            return "failures"
        if not (new.duration_s and old.duration_s):
            return None
        slower_s = median(new.duration_s) - median(old.duration_s)
        if slower_s > LEAST_SLOWER_S and median(new.duration_s) > MOST_TIMES_SLOWER * median(
            old.duration_s
        ):
            return "latency"
        return None
