"""One replica in simulated time: its event loop, its queue (the real one), its workers.

Decisions are the server's own (`TokenQueue`); only what takes time is replaced by `Costs`. Runs
share the cores: with more threads than cores each gets so much less of one. The event loop wakes
from a sleep and so is let in at once: where all cores are busy, a run that is under way ends so
much later. An event loop that sleeps in between takes more for a request.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import simpy

from benchmarks.cores import Cores, Thread, after
from benchmarks.sheet import MAX_BATCH_TOKENS, Costs
from service.batching.queue import Priority, TokenQueue
from service.batching.workers import CALM_S

# How much of the event loop's work for a request comes before the queue: parsing and tokenizing.
BEFORE_QUEUE = 0.6
# What loading.py makes of int8; below that a run on all cores is not worth it.
LEAST_WIDE_TOKENS = 64
MAX_QUEUE_TOKENS = 131_072
# Less than any piece of work takes; clocks of floats do not meet exactly.
LEAST_S = 1e-9


@dataclass(slots=True)
class Asked:
    """A request under way. lengths: tokens of its texts; left: texts without an answer."""

    lengths: Sequence[int]
    since_s: float
    done: Callable[["Asked"], None]
    left: int = 0
    refused: bool = False
    queued_at_s: float = 0.0


@dataclass(slots=True)
class _Text:
    """What `TokenQueue` asks of a text."""

    tokens: int
    of: Asked
    wanted: bool = True
    deadline_s: float = math.inf


@dataclass(slots=True, eq=False)
class _Run:
    """threads: it has so many; left_s: what it takes yet with a core for each."""

    batch: list[_Text]
    threads: int
    express: bool
    left_s: float

    @property
    def long(self) -> bool:
        return sum(text.tokens for text in self.batch) > MAX_BATCH_TOKENS


@dataclass
class Seen:
    """What a scraper of the replica's metrics would know."""

    waits_s: list[float] = field(default_factory=list)
    busy_s: float = 0.0
    cpu_s: float = 0.0


class Replica:
    """A server of `costs.cores` cores. `waits`: keep how long each text waited."""

    def __init__(
        self,
        env: simpy.Environment,
        costs: Costs,
        *,
        seed: int = 0,
        wide: bool = True,
        waits: bool = False,
    ) -> None:
        self._env = env
        self._costs = costs
        self._wide = wide and costs.cores > 1
        self._waits = waits
        self._rng = random.Random(seed)
        self._queue: TokenQueue[_Text] = TokenQueue(MAX_BATCH_TOKENS)
        self._queued_tokens = 0
        self._runs: list[_Run] = []
        # When the runs were last looked at, and which look at them is the next.
        self._at_s = 0.0
        self._next_look = 0
        self._crowded_at_s = -math.inf
        self.cores = Cores(env, costs.cores)
        self.loop = Thread(env, self.cores, self.slow, costs)
        # Whoever else is on the machine and would be let in at once.
        self.threads = [self.loop]
        self.seen = Seen()
        self.outstanding = 0

    def ask(self, lengths: Sequence[int], done: Callable[[Asked], None]) -> None:
        """`done` is called when the answer leaves, or at once where the queue is full."""
        asked = Asked(lengths, self._env.now, done, len(lengths))
        self.outstanding += 1
        cost_s = self._costs.loop.of(lengths)
        self.loop.do(BEFORE_QUEUE * cost_s, lambda: self._admit(asked, cost_s))

    def slow(self, by_s: float) -> bool:
        """Another thread of the machine needs a core: a run gives way if there is no free one."""
        self.seen.cpu_s += by_s
        if not self._full:
            return False
        self._catch_up()
        self._rng.choice(self._runs).left_s += by_s
        self._look_later()
        return True

    @property
    def _full(self) -> bool:
        return self._threads >= self._costs.cores

    @property
    def _threads(self) -> int:
        return sum(run.threads for run in self._runs)

    @property
    def _pace(self) -> float:
        """How much each thread of a run does of what it does alone."""
        share = min(1.0, self._costs.cores / max(1, self._threads))
        return share / self._costs.crowded if len(self._runs) > 1 else share

    def _catch_up(self) -> None:
        """Let the runs have done what they did since they were last looked at."""
        did_s = (self._env.now - self._at_s) * self._pace
        for run in self._runs:
            run.left_s -= did_s
        self._at_s = self._env.now

    def _look_later(self) -> None:
        """Look again when the first run ends, if nothing else happens before."""
        self._next_look += 1
        if self._runs:
            first_s = max(0.0, min(run.left_s for run in self._runs))
            after(self._env, first_s / self._pace, partial(self._look, self._next_look))

    def _look(self, number: int) -> None:
        if number != self._next_look:
            return
        self._catch_up()
        for run in [run for run in self._runs if run.left_s <= LEAST_S]:
            self._end(run)
        self._take()
        self._look_later()

    def _admit(self, asked: Asked, cost_s: float) -> None:
        tokens = sum(asked.lengths)
        if self._queued_tokens + tokens > MAX_QUEUE_TOKENS:
            asked.refused = True
            self._leave(asked)
            return
        asked.queued_at_s = self._env.now
        self._queued_tokens += tokens
        self._queue.put([_Text(length, asked) for length in asked.lengths], Priority.INTERACTIVE)
        self._take()

    def _take(self) -> None:
        """Every free worker takes what waits; the express, where all are at long texts."""
        cores = self._costs.cores
        while sum(not run.express for run in self._runs) < cores and self._start(express=False):
            pass
        if len(self._runs) == cores and all(run.long for run in self._runs):
            self._start(express=True)

    def _start(self, *, express: bool) -> bool:
        if not self._queued_tokens:
            return False
        batch = self._queue.take(self._env.now, express=express).batch
        if not batch:
            return False
        lengths = [text.tokens for text in batch]
        self._queued_tokens -= sum(lengths)
        for text in batch:
            text.wanted = False
            if self._waits:
                self.seen.waits_s.append(self._env.now - text.of.queued_at_s)
        if self._runs:
            self._crowded_at_s = self._env.now
        calm = self._env.now - self._crowded_at_s > CALM_S
        alone = calm and not self._runs and not self._queued_tokens
        wide = self._wide and alone and sum(lengths) >= LEAST_WIDE_TOKENS
        takes_s = (self._costs.wide if wide else self._costs.narrow).of(lengths)
        threads = self._costs.cores if wide else 1
        woken_s = self._costs.at(self.cores.busy).worker_woken_s
        for _ in range(threads):
            self.cores.begin()
        self.seen.busy_s += takes_s
        self.seen.cpu_s += takes_s * threads
        self._catch_up()
        run = _Run(batch, threads, express, woken_s + takes_s)
        self._runs.append(run)
        if self._full:
            run.left_s += sum(thread.claim_s() for thread in self.threads)
        self._look_later()
        return True

    def _end(self, run: _Run) -> None:
        self._runs.remove(run)
        for text in run.batch:
            asked = text.of
            asked.left -= 1
            if not asked.left:
                after_s = (1 - BEFORE_QUEUE) * self._costs.loop.of(asked.lengths)
                self.loop.do(after_s, partial(self._leave, asked))
        for _ in range(run.threads):
            self.cores.end()

    def _leave(self, asked: Asked) -> None:
        self.outstanding -= 1
        asked.done(asked)
