"""Watches the runs under way: one that does not end turns the server unready, then ends it.

Nothing can interrupt a thread in native code. Its worker is lost, and so is whoever waits for the
run; only a new process mends that, and whoever supervises this one starts it.
"""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable

from prometheus_client import Gauge

from service.batching.workers import Run, WorkerPool

logger = logging.getLogger(__name__)

LOOK_S = 0.5
# A look that comes later than this was held up together with the runs: by a stopped process, a
# paused container. Such time tells nothing about them.
MOST_LOOK_S = 4 * LOOK_S


def end_process() -> None:
    """Say where each thread is, by function and line, and exit as an internal software error."""
    try:
        faulthandler.dump_traceback(all_threads=True)
    finally:
        # No handler, no waiting for threads: one of them never ends.
        os._exit(os.EX_SOFTWARE)


class Watchdog:
    """Looks in a thread of its own, as the event loop may be what is held up.

    Args:
        pool: whose runs are watched; is told how many are stuck.
        stuck: the same, as a metric.
        stuck_run_s: a run that takes so long is stuck.
        stuck_exit_s: one that takes so long ends the process; 0: none does.
        clock: seconds that never go back.
        end: ends the process.
    """

    def __init__(
        self,
        pool: WorkerPool,
        stuck: Gauge,
        *,
        stuck_run_s: float,
        stuck_exit_s: float,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[], None] = end_process,
    ) -> None:
        self._pool = pool
        self._gauge = stuck
        self._stuck_run_s = stuck_run_s
        self._stuck_exit_s = stuck_exit_s
        self._clock = clock
        self._end = end
        self._looked_at_s = clock()
        self._ages_s: dict[Run, float] = {}
        self._stuck: set[Run] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="encserve-watchdog", daemon=True)

    def start(self) -> None:
        """Look from now on, twice a second."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; called when the pool is closed. What is stuck then ends the process."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._pool.stuck:
            logger.critical(
                "a run is still stuck at the end: the process ends with status %d", os.EX_SOFTWARE
            )
            self._end()

    def look(self) -> None:
        """Count how long the runs take already, and act on those that take too long."""
        now_s = self._clock()
        passed_s = min(now_s - self._looked_at_s, MOST_LOOK_S)
        self._looked_at_s = now_s
        self._ages_s = {
            run: self._ages_s.get(run, -passed_s) + passed_s for run in self._pool.under_way()
        }
        self._note_stuck({run for run, age_s in self._ages_s.items() if age_s >= self._stuck_run_s})
        if self._stuck_exit_s and max(self._ages_s.values(), default=0) >= self._stuck_exit_s:
            logger.critical(
                "a run takes longer than %g s (ENCSERVE_STUCK_EXIT_S): the process ends with "
                "status %d and must be started again",
                self._stuck_exit_s,
                os.EX_SOFTWARE,
            )
            self._end()

    def _note_stuck(self, stuck: set[Run]) -> None:
        for run in stuck - self._stuck:
            logger.error(
                "a run of %s takes longer than %g s (ENCSERVE_STUCK_RUN_S): not ready",
                run.of,
                self._stuck_run_s,
            )
        for run in self._stuck - stuck:
            logger.warning("the run of %s has ended after all", run.of)
        self._stuck = stuck
        self._pool.stuck = len(stuck)
        self._gauge.set(len(stuck))

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_S):
            self.look()
