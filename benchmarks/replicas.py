"""One replica and two of them, a core each, alone and behind HAProxy or nginx.

    python -m benchmarks.replicas [--seconds 3] [--rounds 3] [--clients 32]

Every replica is bound to a core of its own; balancer and load generator take what they need from
the same cores, which a second replica therefore does not have for itself. Medians of the rounds.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.balancers import balancer
from benchmarks.common import STORE, machine
from benchmarks.costs import loads_of
from benchmarks.figures import Figures, Rig, medians, print_table, refuse_errors
from benchmarks.generator import Drive, Stream, load_generator
from benchmarks.processes import Usage, encserve

LOADS = ("short", "mixed", "mixed, 32 a request")
Key = tuple[str, str]


@dataclass(frozen=True)
class System:
    """Where requests go, who answers them, and who stands between."""

    url: str
    usage: "Usages"
    balancer: Usage | None = None


@dataclass(frozen=True)
class Usages:
    """Of several processes together; what `Rig` asks for."""

    of: Sequence[Usage]

    def cpu_s(self) -> float:
        return sum(one.cpu_s() for one in self.of)

    def memory_mib(self) -> float:
        return sum(one.memory_mib() for one in self.of)

    def peak_mib(self) -> float:
        return sum(one.peak_mib() for one in self.of)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    loads = loads_of(options.store, options.model, options.texts)
    found: dict[Key, list[Figures]] = {}
    balancer_s: dict[Key, list[float]] = {}
    with load_generator() as drive, ExitStack() as stack:
        systems = started(stack, options.store, options.model)
        for system in systems.values():
            drive(system.url, [Stream(loads["mixed"], clients=8)], 1)
        for turn in range(options.rounds):
            for load in LOADS:
                first = turn * len(loads[load]) // options.rounds
                stream = Stream(loads[load], clients=options.clients, first=first)
                for name, system in systems.items():
                    figures, between_s = measured(drive, system, stream, options.seconds)
                    found.setdefault((load, name), []).append(figures)
                    balancer_s.setdefault((load, name), []).append(between_s)
    rounds = f"{options.rounds} rounds of {options.seconds:g} s"
    print(f"{machine()}; {options.clients} clients, {rounds}\n")
    report(found, balancer_s)
    refuse_errors(found.values())


def started(stack: ExitStack, store: Path, model: str) -> dict[str, System]:
    """All that is compared; everything runs at once, and what is not asked sleeps."""
    replicas = [
        stack.enter_context(encserve(store, model, before=("taskset", "-c", str(core))))
        for core in range(2)
    ]
    systems = {"1 replica": System(replicas[0].url, Usages([replicas[0].usage]))}
    for name, several in (("haproxy", 1), ("haproxy", 2), ("nginx", 2)):
        behind = replicas[:several]
        front = stack.enter_context(balancer(name, behind))
        usages = Usages([one.usage for one in behind])
        systems[f"{name}, {several}"] = System(front.url, usages, front.usage)
    return systems


def measured(drive: Drive, system: System, stream: Stream, seconds: float) -> tuple[Figures, float]:
    """What the callers saw, and the balancer's processor time of a request."""
    before_s = system.balancer.main_thread_s() if system.balancer else 0.0
    (figures,) = Rig(partial(drive, system.url), system.usage, seconds).measure(stream)
    between_s = system.balancer.main_thread_s() - before_s if system.balancer else 0.0
    requests = figures.texts_per_s * seconds / len(stream.requests[0].texts)
    return figures, between_s / requests


def report(
    found: Mapping[Key, Sequence[Figures]], balancer_s: Mapping[Key, Sequence[float]]
) -> None:
    rows = []
    for (load, name), rounds in found.items():
        alone = found[load, "1 replica"]
        times = median(
            one.texts_per_s / own.texts_per_s for one, own in zip(rounds, alone, strict=True)
        )
        middle = medians(rounds)
        between = 1e6 * median(balancer_s[load, name])
        rows.append(
            [
                *(load, name, f"{middle.texts_per_s:.1f}", f"{times:.2f}"),
                *(f"{middle.p50_ms:.1f}", f"{middle.p99_ms:.1f}", f"{middle.cpu_cores:.2f}"),
                *(f"{middle.client_cores:.2f}", f"{between:.0f}" if between else "-"),
                *(f"{middle.memory_mib:.0f}", f"{sum(one.errors for one in rounds):.0f}"),
            ]
        )
    head = ["texts/s", "times", "p50 ms", "p99", "replicas' cores", "clients' cores"]
    print_table(
        ["load", "sent to", *head, "balancer, µs a request", "MiB", "errors"], rows, names=2
    )


if __name__ == "__main__":
    main()
