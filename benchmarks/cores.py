"""Simulated cores: how busy they are, and threads that work piece by piece."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import simpy

from benchmarks.sheet import Costs

# How busy the cores are is a mean of the last moments, older ones count less.
BUSY_OVER_S = 0.25


class Cores:
    """Those of one machine; more threads than cores share them."""

    def __init__(self, env: simpy.Environment, count: int) -> None:
        self._env = env
        self._count = count
        self._threads = 0
        # How busy they were until then.
        self._busy, self._busy_at_s = 0.0, 0.0

    def begin(self) -> None:
        """A thread has work."""
        self._note_busy()
        self._threads += 1

    def end(self) -> None:
        """A thread has done its work."""
        self._note_busy()
        self._threads -= 1

    @property
    def busy(self) -> float:
        """The share of them that was at work lately, from 0 to 1."""
        self._note_busy()
        return self._busy

    def _note_busy(self) -> None:
        working = min(1.0, self._threads / self._count)
        kept = math.exp((self._busy_at_s - self._env.now) / BUSY_OVER_S)
        self._busy = working + (self._busy - working) * kept
        self._busy_at_s = self._env.now


class Thread:
    """Work done piece by piece, let in at once where it is awake.

    How long it takes to wake it, and how much longer a piece takes, depends on how busy the cores
    are.

    Args:
        slowed: is told how long a piece takes; whether a run gave way to it.
    """

    def __init__(
        self,
        env: simpy.Environment,
        cores: Cores,
        slowed: Callable[[float], bool],
        costs: Costs,
    ) -> None:
        self._env = env
        self._cores = cores
        self._slowed = slowed
        self._costs = costs
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._busy = False
        self._until_s = 0.0
        self._given_way = True

    def do(self, takes_s: float, then: Callable[[], None]) -> None:
        self._waiting.append((takes_s, then))
        if not self._busy:
            self._busy = True
            after(self._env, self._costs.at(self._cores.busy).woken_s, self._begin)

    def claim_s(self) -> float:
        """What is left of the piece under way, unless a run has given way to it; one does now."""
        left_s = 0.0 if self._given_way else max(0.0, self._until_s - self._env.now)
        self._given_way = True
        return left_s

    def _begin(self) -> None:
        takes_s, then = self._waiting.popleft()
        takes_s *= self._costs.at(self._cores.busy).times
        self._cores.begin()
        self._until_s = self._env.now + takes_s
        self._given_way = self._slowed(takes_s)
        after(self._env, takes_s, lambda: self._end(then))

    def _end(self, then: Callable[[], None]) -> None:
        then()
        self._cores.end()
        if self._waiting:
            self._begin()
        else:
            self._busy = False


def after(env: simpy.Environment, delay_s: float, then: Callable[[], None]) -> None:
    """Call `then` so much later."""
    event: Any = env.timeout(delay_s)
    event.callbacks.append(lambda _: then())
