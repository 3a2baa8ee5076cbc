"""What it costs to work on a core that has rested, or that has just done something else.

The machine says of none of it how long it takes. But the longer one caller waits between an answer
and the next request, the later the answers are; the simulated replica is to do the same. What one
run leaves to the next is measured in process.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scipy.optimize import minimize

from benchmarks.common import percentile
from benchmarks.generator import Drive, Stream
from benchmarks.processes import Server
from benchmarks.sheet import CLEAN_TOKENS, Cooling, Costs
from benchmarks.simulated_drive import drive as simulate
from benchmarks.traffic import Request

RESTS_S = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05)
# Of each rest; more would not move a median.
SIMULATED_REQUESTS = 200
# Milliseconds, so that a step of the search is of the same size in each: `most_s` and `rest_s`.
START_MS = (3.0, 8.0)
BOUNDS_MS = ((0.0, 20.0), (0.5, 100.0))


CARRIED_LENGTHS = (64, 128, 256)
SHORT_TOKENS, SWITCH_TOKENS = 24, 128
REPEATS = 80
Run = Callable[[Sequence[Sequence[int]]], object]


def carried_over(narrow: Run, wide: Run, ids_of: Callable[[int], list[int]]) -> Cooling:
    """What a short run takes longer after a longer one, and after one of the other kind.

    Args:
        ids_of: token ids of that length.
    """
    short = [ids_of(SHORT_TOKENS)]
    before = [(narrow, SHORT_TOKENS), *((narrow, tokens) for tokens in CARRIED_LENGTHS)]
    before.append((wide, SWITCH_TOKENS))
    took_s: list[list[float]] = [[] for _ in before]
    # In turns, as the machine's own speed moves by more than what is looked for.
    for _ in range(REPEATS):
        for (run, tokens), times in zip(before, took_s, strict=True):
            run([ids_of(tokens)])
            since_s = time.perf_counter()
            narrow(short)
            times.append(time.perf_counter() - since_s)
    warm_s, *after_s, switched_s = (percentile(times, 0.25) for times in took_s)
    beyond = [tokens - CLEAN_TOKENS for tokens in CARRIED_LENGTHS]
    left_s = [one - warm_s for one in after_s]
    # The line through 0 that fits them best.
    token_s = sum(a * b for a, b in zip(beyond, left_s, strict=True)) / sum(a * a for a in beyond)
    # Wide runs are of texts that are not short; what these leave anyway is counted above.
    switch_s = switched_s - after_s[CARRIED_LENGTHS.index(SWITCH_TOKENS)]
    return Cooling(token_s=max(0.0, token_s), switch_s=max(0.0, switch_s))


@dataclass(frozen=True)
class Rested:
    """rest_s: before each request; p50_s: of the answers; loop_s: of the event loop a request."""

    rest_s: float
    p50_s: float
    loop_s: float


def rested(
    requests: Sequence[Request], drive: Drive, server: Server, seconds: float
) -> list[Rested]:
    """One caller, with rests of several lengths."""
    found = []
    for rest_s in RESTS_S:
        before_s = server.usage.main_thread_s()
        (sent,) = drive(server.url, [Stream(requests, rest_s=rest_s)], seconds)
        loop_s = (server.usage.main_thread_s() - before_s) / len(sent.latencies_s)
        found.append(Rested(rest_s, percentile(sent.latencies_s, 0.5), loop_s))
    return found


def with_cooling(costs: Costs, lengths: Sequence[Sequence[int]], seen: Sequence[Rested]) -> Costs:
    """`costs` with the cooling that explains what was seen best.

    Args:
        lengths: of the texts of each request that was sent.
    """
    warm_s = sum(costs.loop.of(one) for one in lengths) / len(lengths)
    slower = max(1.0, seen[-1].loop_s / warm_s - 1)

    def made(parameters_ms: Sequence[float]) -> Costs:
        most_s, rest_s = (float(value) / 1000 for value in parameters_ms)
        cooling = replace(costs.cooling, most_s=most_s, rest_s=rest_s, slower=slower)
        return replace(costs, cooling=cooling)

    def off(parameters_ms: Sequence[float]) -> float:
        return sum((p50_s(made(parameters_ms), lengths, one) / one.p50_s - 1) ** 2 for one in seen)

    best = minimize(
        off,
        START_MS,
        method="Nelder-Mead",
        bounds=BOUNDS_MS,
        options={"xatol": 0.02, "fatol": 1e-5},
    )
    return made(best.x)


def p50_s(costs: Costs, lengths: Sequence[Sequence[int]], like: Rested) -> float:
    """Of the simulated replica with such rests."""
    seconds = SIMULATED_REQUESTS * (like.rest_s + like.p50_s)
    return percentile(simulate(costs, lengths, seconds, rest_s=like.rest_s).latencies_s, 0.5)
