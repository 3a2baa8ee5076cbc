"""Refuses what the event loop has no time for, so that it comes round again soon.

A queue that nobody counts stands before the event loop: bytes in sockets. Where requests cost the
loop more than the model, as short texts and small models do, that is the one that grows under
overload; and the loop then takes seconds to come round, for the probes of health as well.
"""

import asyncio
import time
from collections.abc import Callable

from service.errors import Overloaded

# What one turn of the loop may compute; a burst of a hundred requests fits.
TURN_S = 0.1
# A turn that is too long is a burst. Turns that are so for this long are overload.
PATIENCE_S = 1.0
# Without a request for so long, whatever was before is over.
PAUSE_S = 0.1
RETRY_AFTER_S = 1.0


class LoopTurns:
    """How much the turns of the event loop compute in which requests begin.

    Args:
        clock: monotonic seconds.
        computed: seconds that this thread has computed: what other processes take of the machine
            makes every turn longer, and is no reason to refuse anybody.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        computed: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._computed = computed
        self._computed_before_s: float | None = None
        self._since_s = 0.0
        self._ended_s = 0.0
        self._too_long_since_s: float | None = None

    def check(self) -> None:
        """A request begins, and may be the first of a turn.

        Raises:
            Overloaded: turns have been too long for a while, and this one is by now.
        """
        if self._computed_before_s is None:
            self._begin()
            return
        if self._too_long_since_s is None or not self._too_long():
            return
        if self._clock() - self._too_long_since_s > PATIENCE_S:
            raise Overloaded(
                "more requests come than the server can read: send the request again later",
                retry_after_s=RETRY_AFTER_S,
            )

    def _begin(self) -> None:
        self._since_s = self._clock()
        if self._since_s - self._ended_s > PAUSE_S:
            self._too_long_since_s = None
        self._computed_before_s = self._computed()
        # Runs in the loop's next turn, after everything that is due in this one.
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self._ended_s = self._clock()
        if not self._too_long():
            self._too_long_since_s = None
        elif self._too_long_since_s is None:
            self._too_long_since_s = self._since_s
        self._computed_before_s = None

    def _too_long(self) -> bool:
        assert self._computed_before_s is not None
        return self._computed() - self._computed_before_s > TURN_S
