"""The server under load from another process: rates, latencies, processor and memory.

    python -m benchmarks.serve [--texts FILE.tsv] [--seconds 3] [--rounds 3] [--variant fp32]

Closed loops of 1 to 128 clients, then open loops at shares of the most that those reached, whose
latencies count from the moment a request was meant to be sent. Last, short texts beside clients
that send long ones without pause. Medians of the rounds.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.answers import vectors_of
from benchmarks.common import STORE, machine
from benchmarks.figures import COLUMNS, Figures, Rig, cells, medians, print_table, refuse_errors
from benchmarks.generator import Stream, load_generator
from benchmarks.processes import encserve
from benchmarks.traffic import Request, Traffic, describe, distinct_texts, short_texts

CLIENTS = (1, 8, 32, 128)
SHARES = (0.5, 0.8, 0.95)
SHORT_CLIENTS = (1, 8)
LONG_CLIENTS = 4
LONG_TOKENS = 400
Row = tuple[str, ...]
Found = dict[Row, list[Figures]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--variant", default="", help="empty: the server's own choice")
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    traffic = Traffic(options.store, options.model)
    texts = distinct_texts(options.texts)
    short, long = short_texts(texts), traffic.texts_of(LONG_TOKENS, texts, 64)
    loads = {
        "short": traffic.requests(short),
        "mixed": traffic.requests(texts),
        "mixed, 32 a request": traffic.requests(texts, 32),
    }
    one_by_one: Found = defaultdict(list)
    together: Found = defaultdict(list)
    with (
        load_generator() as drive,
        encserve(options.store, options.model, variant=options.variant) as server,
    ):
        rig = Rig(partial(drive, server.url), server.usage, options.seconds)
        vectors_of(server, [requests[0] for requests in loads.values()])
        rig.measure(Stream(loads["mixed"], clients=8))
        for turn in range(options.rounds):
            for name, requests in loads.items():
                one_load(rig, name, requests, turn * len(requests) // options.rounds, one_by_one)
            beside_long(rig, loads["short"], traffic.requests(long), together)
        peak_mib = server.usage.peak_mib()
    print(f"{machine()}; {options.rounds} rounds of {options.seconds:g} s")
    print(f"{describe(loads)}; the model reads {traffic.manifest.max_tokens} tokens at most")
    print(f"The server's memory was {peak_mib:.0f} MiB at most\n")
    report(one_by_one, together)


def one_load(rig: Rig, name: str, requests: Sequence[Request], first: int, found: Found) -> None:
    """A round: the closed loops, then open ones at shares of the most that they reached."""
    capacity = 0.0
    for clients in CLIENTS:
        (closed,) = rig.measure(Stream(requests, clients=clients, first=first))
        found[name, f"closed loop of {clients}"].append(closed)
        capacity = max(capacity, closed.texts_per_s / len(requests[0].texts))
    for share in SHARES:
        (opened,) = rig.measure(Stream(requests, rate=share * capacity, first=first))
        found[name, f"open loop at {share:.0%}"].append(opened)


def beside_long(rig: Rig, short: Sequence[Request], long: Sequence[Request], found: Found) -> None:
    """A round of short texts, alone and then while other clients send long ones without pause."""
    for clients in SHORT_CLIENTS:
        stream = Stream(short, clients=clients)
        (alone,) = rig.measure(stream)
        beside, _ = rig.measure(stream, Stream(long, clients=LONG_CLIENTS))
        found[str(clients), "alone"].append(alone)
        found[str(clients), "beside"].append(beside)


def report(one_by_one: Found, together: Found) -> None:
    rows = [[*row, *cells(medians(rounds))] for row, rounds in one_by_one.items()]
    print_table(["load", "sent by", *COLUMNS], rows, names=2)
    print(f"Short texts beside {LONG_CLIENTS} clients that send {LONG_TOKENS}-token texts:\n")
    head = ["p99 alone, ms", "p50 beside, ms", "p99 beside, ms", "p99, times"]
    print_table(["clients of short texts", *head], [beside_row(n, together) for n in SHORT_CLIENTS])
    refuse_errors([*one_by_one.values(), *together.values()])


def beside_row(clients: int, together: Found) -> list[str]:
    alone, beside = together[str(clients), "alone"], together[str(clients), "beside"]
    times = median(two.p99_ms / one.p99_ms for one, two in zip(alone, beside, strict=True))
    values = (medians(alone).p99_ms, medians(beside).p50_ms, medians(beside).p99_ms, times)
    return [str(clients), *(f"{value:.1f}" for value in values)]


if __name__ == "__main__":
    main()
