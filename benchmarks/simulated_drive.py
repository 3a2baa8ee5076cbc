"""A load on one simulated replica, by a generator that takes its time from the same machine."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import simpy

from benchmarks.cores import Thread, after
from benchmarks.sheet import Costs
from benchmarks.simulated import Asked, Replica


@dataclass
class Drive:
    """A load on one replica from a generator on the same machine, and what it saw.

    runs_s: of all runs, each as long as it takes with cores for itself.
    """

    latencies_s: list[float] = field(default_factory=list)
    texts: int = 0
    refused: int = 0
    took_s: float = 0.0
    runs_s: float = 0.0


def drive(
    costs: Costs,
    requests: Sequence[Sequence[int]],
    seconds: float,
    *,
    clients: int = 1,
    rate: float | None = None,
    rest_s: float = 0.0,
    seed: int = 0,
    wide: bool = True,
) -> Drive:
    """As `benchmarks.generator.drive` does: a closed loop of `clients`, or an open one of `rate`.

    Args:
        requests: the lengths of each request's texts; after the last comes the first again.
        rest_s: what each of `clients` waits between an answer and its next request.
    """
    env = simpy.Environment()
    replica = Replica(env, costs, seed=seed, wide=wide)
    generator = Thread(env, replica.cores, replica.slow, costs)
    replica.threads.append(generator)
    rng = random.Random(seed)
    timer_s = costs.client_timer_s if rest_s or rate is not None else 0.0
    found, turn = Drive(), 0

    def send(then: Callable[[], None]) -> None:
        nonlocal turn
        lengths = requests[turn % len(requests)]
        turn += 1
        due_s = env.now
        half_s = costs.client_request_s / 2

        def received(asked: Asked) -> None:
            if asked.refused:
                found.refused += 1
            else:
                found.latencies_s.append(env.now - due_s)
                found.texts += len(lengths)
            found.took_s = env.now
            then()

        def answered(asked: Asked) -> None:
            generator.do(half_s, lambda: received(asked))

        generator.do(timer_s + half_s, lambda: replica.ask(lengths, answered))

    def client() -> None:
        if env.now < seconds:
            send(rested_client if rest_s else client)

    def rested_client() -> None:
        after(env, rest_s, client)

    def arrive() -> None:
        if env.now < seconds:
            send(lambda: None)
            after(env, rng.expovariate(rate or 1.0), arrive)

    if rate is None:
        for _ in range(clients):
            client()
    else:
        after(env, rng.expovariate(rate), arrive)
    env.run()
    found.runs_s = replica.seen.busy_s
    return found
