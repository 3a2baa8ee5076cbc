"""The threads that run models, shared by all models, so that a machine is never oversubscribed."""

import asyncio
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
EXPRESS = "express"
# Of the threads that run models, beside the event loop, which needs little and at once: where all
# cores are busy it would wait for its turn as long as a run, and refusals and probes with it.
NICENESS = 5
# Runs that overlap will do so again: for so long none of them takes the cores of the next one.
CALM_S = 0.1
# How often closing looks whether what it waits for is stuck.
JOIN_S = 0.25


Tell = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A run of `model`; `long` if it takes longer than a batch should, as one long text does.

    run: returns what tells those who wait, once the worker counts as free again.
    """

    run: Callable[[], Tell]
    long: bool
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a thread is at; each is one of its own. of: for the log."""

    of: str


class Source(Protocol):
    """Where the workers find work: the batcher of a model."""

    def take(self, *, express: bool) -> Job | None:
        """The next job, chosen now; called in a worker's thread, with `WorkerPool.lock` held.

        Args:
            express: only short requests that somebody waits for.
        """
        ...

    def give_up(self, error: BaseException) -> None:
        """`take` or its job has raised: the source is asked no more."""
        ...


class WorkerPool:
    """At most `size` model runs at a time, one thread each, in turn from all sources.

    A thread that is free takes the next job itself. The event loop hands nothing over, so a busy
    loop leaves no core idle between two runs; and a job is chosen only when it can start, which
    keeps every batch as full as the queue allows.

    One more thread, the express, runs short requests while every worker is at a long text, which
    nothing can interrupt: the kernel lets the newcomer in, and the long texts lose what it takes.

    lock: guards what sources and the event loop share; held for moments only.
    stuck: runs under way that take longer than any may; the watchdog says so.
    """

    def __init__(self, size: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.size = size
        self._clock = clock
        self.lock = threading.Lock()
        self._work = threading.Condition(self.lock)
        self._express = threading.Condition(self.lock)
        self._sources: deque[Source] = deque()
        self._busy = 0
        self._long_runs = 0
        self._crowded_at_s = -math.inf
        self._closed = False
        self._under_way: set[Run] = set()
        self.stuck = 0
        names = [*(f"run_{number}" for number in range(size)), EXPRESS]
        self._threads = [
            threading.Thread(
                target=self._serve, args=(name == EXPRESS,), name=f"encserve-{name}", daemon=True
            )
            for name in names
        ]
        for thread in self._threads:
            thread.start()
        # One thread: preparing large requests takes at most one core from the runs.
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="encserve-aside")

    def add(self, source: Source) -> None:
        """Ask `source` for work from now on."""
        with self.lock:
            self._sources.append(source)
            self.wake()

    def remove(self, source: Source) -> None:
        """Ask `source` no more; what was taken is finished."""
        with self.lock:
            if source in self._sources:
                self._sources.remove(source)

    def wake(self) -> None:
        """There is work for one more worker; call with `lock` held."""
        self._work.notify()
        if self._long_runs == self.size:
            self._express.notify()

    @property
    def busy(self) -> int:
        """Jobs under way."""
        return self._busy

    def under_way(self) -> list[Run]:
        """What all threads are at now, preparing included."""
        with self.lock:
            return list(self._under_way)

    @property
    def calm(self) -> bool:
        """Only the one that asks is busy, and was beside no other of late; with `lock` held."""
        return self._busy <= 1 and self._clock() - self._crowded_at_s > CALM_S

    async def run_aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` off the event loop, after what others put aside before."""

        def noted() -> T:
            with self._noted("what was put aside"):
                return function(*args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._aside, noted)

    def close(self) -> None:
        """Wait for the jobs under way, unless one is stuck; nothing is taken any more."""
        with self.lock:
            self._closed = True
            self._work.notify_all()
            self._express.notify_all()
        for thread in self._threads:
            while thread.is_alive() and not self.stuck:
                thread.join(JOIN_S)
        self._aside.shutdown(wait=not self.stuck, cancel_futures=True)

    def _serve(self, express: bool) -> None:
        give_way()
        while (found := self._next(express)) is not None:
            source, job = found
            tell: Tell | None = None
            try:
                with self._noted(f"model {job.model}"):
                    tell = job.run()
            except BaseException as error:  # the thread must live for the other sources
                self.remove(source)
                source.give_up(error)
            finally:
                with self.lock:
                    self._busy -= 1
                    self._long_runs -= job.long
            if tell is not None:
                tell()

    @contextmanager
    def _noted(self, of: str) -> Iterator[None]:
        run = Run(of)
        with self.lock:
            self._under_way.add(run)
        try:
            yield
        finally:
            with self.lock:
                self._under_way.remove(run)

    def _next(self, express: bool) -> tuple[Source, Job] | None:
        """Wait for a job; None once the pool is closed."""
        with self.lock:
            while not self._closed:
                if (found := self._ask_in_turn(express)) is not None:
                    return found
                (self._express if express else self._work).wait()
        return None

    def _ask_in_turn(self, express: bool) -> tuple[Source, Job] | None:
        if express and self._long_runs < self.size:
            return None
        self._busy += 1
        for source in list(self._sources):
            self._sources.rotate(-1)
            try:
                job = source.take(express=express)
            except BaseException as error:  # a defect of one source must not stop the others
                self._sources.remove(source)
                source.give_up(error)
                continue
            if job is not None:
                if self._busy > 1:
                    self._crowded_at_s = self._clock()
                self._long_runs += job.long
                if self._long_runs == self.size:
                    self._express.notify()
                return source, job
        self._busy -= 1
        return None


def give_way() -> None:
    """On Linux each thread has a niceness of its own, counted within the process's group alone."""
    if sys.platform == "linux":
        own = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(own + NICENESS, 19))
