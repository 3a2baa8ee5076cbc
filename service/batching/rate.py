"""How fast a queue drains, measured while it does."""

import math

# Older runs count less and less: about this much time of draining makes the mean.
WINDOW_S = 2.0


class DrainRate:
    """Tokens a second, by the wall time between runs.

    Wall time is what a queue drains by: it knows of all workers, and of what other models take of
    them. Only time in which something waited tells.
    """

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._since_s: float | None = None

    @property
    def seconds_a_token(self) -> float:
        """0 before anything is known."""
        return self._seconds / self._tokens if self._tokens else 0.0

    def note_run(self, tokens: int, now_s: float, *, waiting: bool) -> None:
        """A batch of `tokens` was finished at `now_s`; something still waits, or nothing does."""
        if self._since_s is not None:
            elapsed_s = now_s - self._since_s
            keep = math.exp(-elapsed_s / WINDOW_S)
            self._tokens = keep * self._tokens + tokens
            self._seconds = keep * self._seconds + elapsed_s
        self._since_s = now_s if waiting else None
