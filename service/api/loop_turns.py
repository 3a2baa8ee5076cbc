"""Refuses what the event loop has no time for, so that it comes round again soon.

A queue that nobody counts stands before the event loop: bytes in sockets. Where requests cost the
loop more than the model, as short texts and small models do, that is the one that grows under
overload; and the loop then takes seconds to come round, for the probes of health as well.
"""

import asyncio
import time
from collections.abc import Callable

from service.errors import Overloaded

# What the requests of one turn of the loop may take; a burst of hundreds fits.
TURN_S = 0.2
# A turn that is too long is a burst. Turns that are so for this long are overload.
PATIENCE_S = 1.0
# Without a request for so long, whatever was before is over.
PAUSE_S = 0.1
RETRY_AFTER_S = 1.0


class LoopTurns:
    """How long the turns of the event loop are in which requests begin.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since_s: float | None = None
        self._ended_s = 0.0
        self._too_long_since_s: float | None = None

    def check(self) -> None:
        """A request begins, and may be the first of a turn.

        Raises:
            Overloaded: turns have been too long for a while, and this one is by now.
        """
        now_s = self._clock()
        if self._since_s is None:
            self._begin(now_s)
            return
        overloaded = (
            self._too_long_since_s is not None and now_s - self._too_long_since_s > PATIENCE_S
        )
        if overloaded and now_s - self._since_s > TURN_S:
            raise Overloaded(
                "more requests come than the server can read: send the request again later",
                retry_after_s=RETRY_AFTER_S,
            )

    def _begin(self, now_s: float) -> None:
        if now_s - self._ended_s > PAUSE_S:
            self._too_long_since_s = None
        self._since_s = now_s
        # Runs in the loop's next turn, after everything that is due in this one.
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        assert self._since_s is not None
        self._ended_s = self._clock()
        if self._ended_s - self._since_s <= TURN_S:
            self._too_long_since_s = None
        elif self._too_long_since_s is None:
            self._too_long_since_s = self._since_s
        self._since_s = None
