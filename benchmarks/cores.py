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

from benchmarks.sheet import Cooling

# Of how cold a core is by how long it rests (Weibull's): above 1 it stays warm for a moment.
SHAPE = 1.5


class Cores:
    """Those of one machine. Whoever begins to work takes the one that came to rest last.

    More threads than cores share them, and as long as they do no core rests.
    """

    def __init__(self, env: simpy.Environment, count: int, cooling: Cooling) -> None:
        self._env = env
        self._cooling = cooling
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
        if self._sharing:
            self._sharing -= 1
            return
        self._resting.append((self._working.popleft(), self._env.now))


class Thread:
    """Work done piece by piece, each let in at once when its turn comes."""

    def __init__(
        self, env: simpy.Environment, cores: Cores, slowed: Callable[[float], None]
    ) -> None:
        self._env = env
        self._cores = cores
        self._slowed = slowed
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._busy = False
        self._until_s = 0.0

    def do(self, takes_s: float, then: Callable[[], None]) -> None:
        self._waiting.append((takes_s, then))
        if not self._busy:
            self._begin()

    @property
    def left_s(self) -> float:
        """Of the piece under way."""
        return max(0.0, self._until_s - self._env.now)

    def _begin(self) -> None:
        self._busy = True
        takes_s, then = self._waiting.popleft()
        takes_s += self._cores.begin(takes_s)
        self._until_s = self._env.now + takes_s
        self._slowed(takes_s)
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
