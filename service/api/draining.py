"""A stop in order: say that this replica leaves, serve on until balancers have seen it, end."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

logger = logging.getLogger(__name__)

CLOSE = (b"connection", b"close")


class DrainingServer(uvicorn.Server):
    """uvicorn, which closes its port `drain_s` after SIGTERM instead of at once.

    A balancer asks for readiness every second or so; what it sends meanwhile is answered as ever,
    but with `Connection: close`, so that it keeps no connection that is about to end. SIGINT comes
    from somebody at a terminal, whom this would only keep waiting. A second signal ends the process
    at once.

    Args:
        announce: makes the probes of readiness answer 503; called at the first signal.
    """

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[], None], drain_s: float
    ) -> None:
        super().__init__(config)
        self._announce = announce
        self._drain_s = drain_s
        self._leaves_at_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit or self._leaves_at_s is not None:
            logger.warning("a second signal: ending now, without what is in flight")
            # As process 1 of a container, nobody dies of a signal's default; and threads that run
            # a model would be waited for by any other way out.
            os._exit(128 + sig)
        self._captured_signals.append(sig)
        self._announce()
        if sig == signal.SIGINT or not self.started or not self._drain_s:
            self.should_exit = True
            return
        self._close_after_answers()
        self._leaves_at_s = time.monotonic() + self._drain_s
        logger.info("not ready any more; serving on for %g s", self._drain_s)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal ends it.

        Raises:
            KeyboardInterrupt: that was SIGINT. uvicorn raises it again, of which nothing comes
                where SIGINT was ignored at the start, as it is in the background of a script.
        """
        super().run(sockets)
        if signal.SIGINT in self._captured_signals:
            raise KeyboardInterrupt

    async def on_tick(self, counter: int) -> bool:
        if self._leaves_at_s is not None and time.monotonic() >= self._leaves_at_s:
            self.should_exit = True
        return await super().on_tick(counter)

    def _close_after_answers(self) -> None:
        # uvicorn makes the default headers of these, anew each second.
        self.config.encoded_headers.append(CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
