"""The simulated replica beside the real server: throughput and p50 of the same loads.

    python -m benchmarks.simulation [--seconds 3] [--rounds 3] [--sheet sheet.json]

Each round measures the costs (or reads them), then drives the real server and the simulated one
with the same requests. An open loop sends each a share of what it does at most itself, the server
of what it did a moment ago: a few percent of the capacity decide how long texts wait at 80 % of it.
Medians of the rounds, also of how far off each round was, as a shared machine is not as fast a
minute later. On one that does something else at the same time the real figures are not the
server's.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.common import STORE, machine, percentile
from benchmarks.costs import loads_of, measure
from benchmarks.figures import Rig, print_table
from benchmarks.generator import Stream, load_generator
from benchmarks.processes import encserve
from benchmarks.sheet import Costs, read_sheet
from benchmarks.simulated_drive import Drive, drive
from benchmarks.traffic import Request, Traffic

CLOSED = (1, 8, 32)
OPEN = (0.5, 0.8)
# The goal; what lies beyond is reported as missed.
TOLERANCE = 0.15
Pair = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rest", type=float, default=0, help="seconds between two drives")
    parser.add_argument("--kind", default="mixed", help="short, mixed, long")
    parser.add_argument("--sheet", type=Path, help="measured before, by benchmarks.costs --out")
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    loads = loads_of(options.store, options.model, options.texts)
    requests = loads[options.kind]
    traffic = Traffic(options.store, options.model)
    lengths = [traffic.lengths(one.texts) for one in requests]
    with load_generator() as real, encserve(options.store, options.model) as server:
        rig = Rig(partial(real, server.url), server.usage, options.seconds)
        rig.measure(Stream(requests, clients=8))

        def costs_now() -> Costs:
            if options.sheet:
                return read_sheet(options.sheet).costs
            return measure(options.store, options.model, loads, real, server, options.seconds)

        found = compared(rig, requests, lengths, costs_now, options.rounds, options.rest)
    print(f"{machine()}; {options.kind} texts, {options.rounds} rounds of {options.seconds:g} s\n")
    report(found)


def compared(
    rig: Rig,
    requests: Sequence[Request],
    lengths: Sequence[Sequence[int]],
    costs_now: Callable[[], Costs],
    rounds: int,
    rest_s: float,
) -> dict[str, list[tuple[Pair, Pair]]]:
    """By load and round: throughput and p50 in ms, each of the server and of the simulation."""
    found: dict[str, list[tuple[Pair, Pair]]] = {}

    def both(name: str, stream: Stream, simulate: Callable[[], Drive]) -> float:
        time.sleep(rest_s)
        (real,) = rig.measure(stream)
        made = simulate()
        p50_ms = 1000 * percentile(made.latencies_s, 0.5)
        rates = (real.texts_per_s, made.texts / made.took_s)
        found.setdefault(name, []).append((rates, (real.p50_ms, p50_ms)))
        return rates[1]

    for turn in range(rounds):
        first = turn * len(requests) // rounds
        turned = [*lengths[first:], *lengths[:first]]
        costs, most_simulated = costs_now(), 0.0
        for clients in CLOSED:
            stream = Stream(requests, clients=clients, first=first)
            simulate = partial(drive, costs, turned, rig.seconds, clients=clients, seed=turn)
            simulated = both(f"closed loop of {clients}", stream, simulate)
            most_simulated = max(most_simulated, simulated)
        for share in OPEN:
            (full,) = rig.measure(Stream(requests, clients=CLOSED[-1], first=first))
            stream = Stream(requests, rate=share * full.texts_per_s, first=first)
            rate = share * most_simulated
            simulate = partial(drive, costs, turned, rig.seconds, rate=rate, seed=first)
            both(f"open loop at {share:.0%}", stream, simulate)
    return found


def report(found: dict[str, list[tuple[Pair, Pair]]]) -> None:
    rows, missed = [], []
    for name, rounds in found.items():
        cells, off = [name], []
        for which in (0, 1):
            real = median(one[which][0] for one in rounds)
            made = median(one[which][1] for one in rounds)
            off.append(median(one[which][1] / one[which][0] for one in rounds) - 1)
            cells += [f"{real:.1f}", f"{made:.1f}", f"{off[-1]:+.0%}"]
        rows.append(cells)
        missed += [name] if max(map(abs, off)) > TOLERANCE else []
    head = ["sent by", "texts/s", "simulated", "off", "p50 ms", "simulated", "off"]
    print_table(head, rows)
    print(
        f"within {TOLERANCE:.0%}: {len(rows) - len(missed)} of {len(rows)} loads; missed: {missed}"
    )


if __name__ == "__main__":
    main()
