"""What the event loop and the load generator cost more where the cores are not always at work.

Whoever goes to sleep has to be woken, and then finds caches that others used; where work waits for
a thread, it does several pieces in one turn. Told by closed loops of a few callers, some of whom
rest: the busier the cores, the cheaper, whoever keeps them busy. Callers who come at random moments
are not measured here: `benchmarks.simulation` compares those.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from sklearn.isotonic import IsotonicRegression

from benchmarks.generator import Drive, Stream
from benchmarks.processes import Server
from benchmarks.sheet import Costs, PartLoad
from benchmarks.traffic import Request

# Callers, and how long each of them rests before a request.
LOADS = ((1, 0.05), (1, 0.02), (1, 0.005), (1, 0.0), (2, 0.0), (4, 0.0), (8, 0.0))


@dataclass(frozen=True)
class Busy:
    """A load, and seconds a request.

    busy: share of the cores' time that server and generator took.
    loop_s, client_s: of the event loop, and of the generator, which timers wake where callers rest.
    waited_s: by the event loop for a core; workers_waited_s: by all other threads together.
    """

    busy: float
    loop_s: float
    client_s: float
    waited_s: float
    workers_waited_s: float
    alone: bool
    rested: bool


def busy_and_not(
    requests: Sequence[Request], drive: Drive, server: Server, seconds: float, cores: int
) -> list[Busy]:
    """Each of `LOADS`, the last of which leaves the cores no rest."""

    def measured(clients: int, rest_s: float) -> Busy:
        usage = server.usage
        reads = (
            usage.main_thread_s, usage.cpu_s, usage.main_thread_waited_s, usage.waited_s
        )  # fmt: skip
        before = [read() for read in reads]
        (sent,) = drive(server.url, [Stream(requests, clients=clients, rest_s=rest_s)], seconds)
        loop_s, server_s, waited_s, all_waited_s = (
            read() - since for read, since in zip(reads, before, strict=True)
        )
        count = len(sent.latencies_s)
        return Busy(
            busy=min(1.0, (server_s + sent.client_cpu_s) / cores / sent.took_s),
            loop_s=loop_s / count,
            client_s=sent.client_cpu_s / count,
            waited_s=waited_s / count,
            workers_waited_s=(all_waited_s - waited_s) / count,
            alone=clients == 1,
            rested=rest_s > 0,
        )

    return [measured(*load) for load in LOADS]


def with_part_loads(costs: Costs, loop_s: float, seen: Sequence[Busy]) -> Costs:
    """`costs` with how much dearer the event loop is the less busy the cores are, what the
    generator takes for a request that a timer sends, and how long who is woken waits.

    Args:
        loop_s: what the event loop takes for a request by `costs`.
        seen: the last of them at full speed.
    """
    full = seen[-1]
    in_order = sorted(seen, key=lambda one: one.busy)
    # Noise aside, more work never makes a request dearer.
    times = IsotonicRegression(increasing=False).fit_transform(
        [one.busy for one in in_order], [one.loop_s / loop_s for one in in_order]
    )
    # Only where one caller is alone does a worker wait for nobody but the machine; at full speed it
    # never sleeps.
    alone = [one for one in in_order if one.alone]
    waits_s = [one.workers_waited_s / costs.cores for one in alone]
    workers_s = np.interp(
        [one.busy for one in in_order], [*(one.busy for one in alone), full.busy], [*waits_s, 0.0]
    )
    # A request wakes the event loop twice: to be read, and when its run is done.
    part_loads = tuple(
        PartLoad(one.busy, float(dearer), one.waited_s / 2, float(worker_s))
        for one, dearer, worker_s in zip(in_order, times, workers_s, strict=True)
    )
    costs = replace(costs, part_loads=part_loads)
    client_s = full.client_s / costs.at(full.busy).times
    timers_s = [one.client_s / costs.at(one.busy).times - client_s for one in seen if one.rested]
    return replace(costs, client_request_s=client_s, client_timer_s=max(0.0, median(timers_s)))
