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

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
