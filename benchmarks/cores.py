"""Simulated cores, which grow cold while they rest.

A core that has rested is slow at first: the machine under a virtual one has to give it back, its
clock is low, its caches are others'. All of that together costs so many seconds of work as
`Cooling` says; the longer the rest, the more of them, but a very short one costs nothing.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import simpy

from benchmarks.sheet import Cooling, Costs

# Of how cold a core is by how long it rests (Weibull's): above 1 it stays warm for a moment.
SHAPE = 1.5
# How busy the cores are is a mean of the last moments, older ones count less.
BUSY_OVER_S = 0.25


class Cores:
    """Those of one machine. Whoever begins to work takes the one that came to rest last.

    More threads than cores share them, and as long as they do no core rests.
    """

    def __init__(self, env: simpy.Environment, count: int, cooling: Cooling) -> None:
        self._env = env
        self._count = count
        self._cooling = cooling
        # How busy they were until then.
        self._busy, self._busy_at_s = 0.0, 0.0
        # How cold, in seconds as `Cooling.most_s`; those at rest with the moment when that began.
        self._resting = [(cooling.most_s, 0.0)] * count
        self._working: deque[float] = deque()
        self._sharing = 0

    def begin(self, work_s: float, *, cold_s: float = 0.0, leaves_s: float = 0.0) -> float:
        """A thread has so much work; returns the seconds by which it takes longer.

        Args:
            cold_s: at least so cold is the core for it.
            leaves_s: at least so cold it leaves the core to the next one.
        """
        self._note_busy()
        if self._resting:
            cold_s = max(cold_s, self._cold_s(*self._resting.pop()))
        else:
            # What it shares may be cold yet, and is warmed by both.
            self._sharing += 1
            cold_s = max(cold_s, self._working.popleft())
        longer_s = min(cold_s, self._cooling.slower * work_s)
        self._working.append(max(cold_s - longer_s, leaves_s))
        return longer_s

    def _cold_s(self, cold_s: float, since_s: float) -> float:
        """By now, of a core that came to rest so cold."""
        most_s, rest_s = self._cooling.most_s, self._cooling.rest_s
        if cold_s >= most_s:
            return cold_s
        # As if it had come to rest warm, so much earlier.
        before_s = rest_s * (-math.log1p(-cold_s / most_s)) ** (1 / SHAPE)
        rested_s = before_s + self._env.now - since_s
        return most_s * -math.expm1(-((rested_s / rest_s) ** SHAPE))

    def end(self) -> None:
        """A thread has done its work."""
        self._note_busy()
        if self._sharing:
            self._sharing -= 1
            return
        self._resting.append((self._working.popleft(), self._env.now))

    @property
    def busy(self) -> float:
        """The share of them that was at work lately, from 0 to 1."""
        self._note_busy()
        return self._busy

    def _note_busy(self) -> None:
        working = len(self._working) / self._count
        kept = math.exp((self._busy_at_s - self._env.now) / BUSY_OVER_S)
        self._busy = working + (self._busy - working) * kept
        self._busy_at_s = self._env.now


class Thread:
    """Work done piece by piece, let in at once where it is awake.

    How long it takes to wake it, and how much longer a piece takes, depends on how busy the cores
    are; what cold cores cost is in that.

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
        self._cores.begin(0.0)
        self._until_s = self._env.now + takes_s
        self._given_way = self._slowed(takes_s)
        after(self._env, takes_s, lambda: self._end(then))

    def _end(self, then: Callable[[], None]) -> None:
        # Whoever is woken finds this core still at work, and begins on another.
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
