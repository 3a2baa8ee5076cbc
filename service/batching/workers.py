"""The threads that run models, shared by all models, so that a machine is never oversubscribed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool:
    """At most `size` model runs at a time, one thread each.

    `slot` is held while a batch is chosen and run: choosing only once a thread is free keeps
    every batch as full as the queue allows.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.slot = asyncio.Semaphore(size)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="encserve-run")
        # One thread: preparing large requests takes at most one core from the runs.
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="encserve-aside")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in a thread of the pool; hold `slot`."""
        return await _in(self._threads, function, *args, **kwargs)

    async def run_aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` off the event loop, after what others put aside before."""
        return await _in(self._aside, function, *args, **kwargs)

    def close(self) -> None:
        for threads in (self._threads, self._aside):
            threads.shutdown(wait=True, cancel_futures=True)


async def _in(
    threads: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(threads, lambda: function(*args, **kwargs))
