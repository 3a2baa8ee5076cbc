"""Replicas under an autoscaler in simulated time: the very manifest's targets and behaviour.

Kubernetes' rule for a metric of kind Value or AverageValue: as many replicas as now, times how far
the metric is from its target, rounded up; none within a tenth of it; the largest answer of all
metrics counts. Scaling up and down is held back as `behavior` says.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import simpy
import yaml

from benchmarks.common import percentile
from benchmarks.cores import after
from benchmarks.sheet import Costs
from benchmarks.simulated import Asked, Replica, Seen

BASE = Path(__file__).parents[1] / "deploy" / "kubernetes" / "base" / "autoscaler.yaml"
WAIT, BUSY, CPU = "encserve_queue_wait_seconds_p95", "encserve_workers_busy_ratio", "cpu"
EVALUATED_EVERY_S = 15.0
SCRAPED_EVERY_S = 15.0
WINDOW_S = 60.0
TOLERANCE = 0.1
# From the decision to a pod that answers, image and models on the node.
POD_STARTS_IN_S = 20.0


@dataclass(frozen=True)
class Policy:
    """What an autoscaler goes by. targets: of each metric; the rest is its `behavior`."""

    targets: Mapping[str, float]
    least: int
    most: int
    down_window_s: float = 600.0
    up: tuple[tuple[str, int, float], ...] = (("Percent", 100, 60.0), ("Pods", 2, 60.0))
    down: tuple[tuple[str, int, float], ...] = (("Percent", 20, 120.0),)


def policy_of(manifest: Path = BASE, **changes: Any) -> Policy:
    """The policy of a HorizontalPodAutoscaler; `changes` in the place of its own values."""
    spec = yaml.safe_load(manifest.read_text())["spec"]
    targets = {}
    for metric in spec["metrics"]:
        source = metric[metric["type"].lower()]
        target = source["target"]
        targets[source["metric"]["name"]] = quantity(
            target.get("value", target.get("averageValue"))
        )

    def rates(direction: str) -> tuple[tuple[str, int, float], ...]:
        return tuple(
            (one["type"], one["value"], float(one["periodSeconds"]))
            for one in spec["behavior"][direction]["policies"]
        )

    found = {
        "targets": targets,
        "least": spec["minReplicas"],
        "most": spec["maxReplicas"],
        "down_window_s": float(spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"]),
        "up": rates("scaleUp"),
        "down": rates("scaleDown"),
    }
    return Policy(**found | changes)


def quantity(written: str) -> float:
    """Kubernetes writes a tenth as 100m."""
    text = str(written)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def wanted(policy: Policy, replicas: int, metrics: Mapping[str, float]) -> int:
    """Replicas by the rule above, before anything holds them back."""
    answers = []
    for name, target in policy.targets.items():
        ratio = metrics[name] / target
        answers.append(replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(replicas * ratio))
    return max(policy.least, min(policy.most, max(answers)))


class Autoscaler:
    """Decides every 15 s, as the controller does."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._answers: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def decide(self, now_s: float, replicas: int, metrics: Mapping[str, float]) -> int:
        """How many replicas there should be from now on."""
        answer = wanted(self._policy, replicas, metrics)
        self._answers.append((now_s, answer))
        while self._answers[0][0] < now_s - self._policy.down_window_s:
            self._answers.popleft()
        # Down only as far as the most that was asked for lately.
        steady = max(one for _, one in self._answers)
        answer = min(self._up(now_s, replicas), answer) if answer > replicas else answer
        if answer < replicas:
            answer = max(min(steady, replicas), self._down(now_s, replicas))
        if answer != replicas:
            self._changes.append((now_s, answer - replicas))
        return answer

    def _up(self, now_s: float, replicas: int) -> int:
        return max(
            math.ceil(before * (1 + value / 100)) if kind == "Percent" else before + value
            for kind, value, period_s in self._policy.up
            for before in [replicas - self._changed(now_s, period_s, up=True)]
        )

    def _down(self, now_s: float, replicas: int) -> int:
        return min(
            math.floor(before * (1 - value / 100)) if kind == "Percent" else before - value
            for kind, value, period_s in self._policy.down
            for before in [replicas - self._changed(now_s, period_s, up=False)]
        )

    def _changed(self, now_s: float, period_s: float, *, up: bool) -> int:
        recent = [by for at_s, by in self._changes if at_s > now_s - period_s]
        return sum(by for by in recent if (by > 0) is up)


@dataclass
class Day:
    """What a day came to."""

    latencies_s: list[float] = field(default_factory=list)
    texts: int = 0
    refused: int = 0
    replica_s: float = 0.0
    replicas: list[tuple[float, int]] = field(default_factory=list)


def simulate_day(
    costs: Costs,
    rate: Callable[[float], float],
    most_rate: float,
    lengths: Callable[[random.Random], list[int]],
    policy: Policy,
    *,
    seconds: float = 86_400.0,
    seed: int = 0,
) -> Day:
    """Requests at random moments on replicas behind a balancer that takes any of them.

    Args:
        rate: requests a second at a time of the day; most_rate: the most it ever is.
        lengths: tokens of the texts of the next request.
    """
    return _Cluster(costs, rate, most_rate, lengths, policy, seconds, seed).run()


@dataclass(frozen=True)
class _Scrape:
    """What all replicas did since the last one; cores_s: could have done."""

    at_s: float
    waits_s: list[float]
    busy_s: float
    cpu_s: float
    cores_s: float


class _Cluster:
    def __init__(
        self,
        costs: Costs,
        rate: Callable[[float], float],
        most_rate: float,
        lengths: Callable[[random.Random], list[int]],
        policy: Policy,
        seconds: float,
        seed: int,
    ) -> None:
        self._env = simpy.Environment()
        self._costs, self._rate, self._most_rate = costs, rate, most_rate
        self._lengths, self._seconds = lengths, seconds
        self._rng = random.Random(seed)
        self._scaler = Autoscaler(policy)
        self._ready = [self._replica() for _ in range(policy.least)]
        self._starting = 0
        self._leaving: list[Replica] = []
        self._scrapes: deque[_Scrape] = deque()
        self._day = Day()

    def run(self) -> Day:
        self._arrive()
        self._scrape()
        self._decide()
        self._env.run(until=self._seconds)
        return self._day

    def _replica(self) -> Replica:
        return Replica(self._env, self._costs, seed=self._rng.randrange(2**32), waits=True)

    def _arrive(self) -> None:
        if self._rng.random() < self._rate(self._env.now) / self._most_rate:
            lengths = self._lengths(self._rng)
            self._rng.choice(self._ready).ask(lengths, partial(self._answered, len(lengths)))
        after(self._env, self._rng.expovariate(self._most_rate), self._arrive)

    def _answered(self, texts: int, asked: Asked) -> None:
        if asked.refused:
            self._day.refused += 1
            return
        self._day.texts += texts
        self._day.latencies_s.append(self._env.now - asked.since_s)

    def _scrape(self) -> None:
        """What Prometheus has after a scrape of all replicas that are ready."""
        pods = [*self._ready, *self._leaving]
        found = _Scrape(
            self._env.now,
            [wait_s for pod in pods for wait_s in pod.seen.waits_s],
            sum(pod.seen.busy_s for pod in pods),
            sum(pod.seen.cpu_s for pod in pods),
            SCRAPED_EVERY_S * self._costs.cores * len(self._ready),
        )
        for pod in pods:
            pod.seen = Seen()
        self._leaving = [pod for pod in self._leaving if pod.outstanding]
        self._scrapes.append(found)
        while self._scrapes[0].at_s <= self._env.now - WINDOW_S:
            self._scrapes.popleft()
        after(self._env, SCRAPED_EVERY_S, self._scrape)

    def _metrics(self) -> dict[str, float]:
        """As the adapter's queries over the last minute."""
        waits_s = [wait_s for one in self._scrapes for wait_s in one.waits_s]
        cores_s = sum(one.cores_s for one in self._scrapes)
        return {
            WAIT: percentile(waits_s, 0.95) if waits_s else 0.0,
            BUSY: sum(one.busy_s for one in self._scrapes) / cores_s,
            CPU: sum(one.cpu_s for one in self._scrapes) / cores_s,
        }

    def _decide(self) -> None:
        now_s, there = self._env.now, len(self._ready) + self._starting
        self._day.replica_s += EVALUATED_EVERY_S * there
        self._day.replicas.append((now_s, there))
        answer = self._scaler.decide(now_s, there, self._metrics())
        for _ in range(answer - there):
            self._starting += 1
            after(self._env, POD_STARTS_IN_S, self._start)
        for _ in range(there - answer):
            if len(self._ready) > 1:
                self._leaving.append(self._ready.pop())
        after(self._env, EVALUATED_EVERY_S, self._decide)

    def _start(self) -> None:
        self._starting -= 1
        self._ready.append(self._replica())
