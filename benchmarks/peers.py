"""The same loads, interleaved, on encserve, infinity-emb and a plain sentence-transformers loop.

    python -m benchmarks.peers [--texts FILE.tsv] [--seconds 8] [--rounds 3] [--env .peers]

All servers stay up and one at a time is loaded. infinity-emb gets the same weights as ONNX, in an
environment of its own that the first run makes. Ratios are medians of the rounds' own ratios, above
1 where encserve is faster.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.answers import vectors_of
from benchmarks.common import STORE, machine
from benchmarks.figures import Figures, Rig, medians, print_table, refuse_errors
from benchmarks.generator import Stream, load_generator
from benchmarks.infinity import PINS, infinity, prepare
from benchmarks.plain_loop import plain_loop
from benchmarks.processes import Server, encserve
from benchmarks.traffic import Request, Traffic, describe, distinct_texts, short_texts

LEAST_COSINE = 0.999
FP32, FASTEST = "encserve fp32", "encserve default"
INFINITY, LOOP = "infinity-emb", "sentence-transformers loop"


@dataclass(frozen=True)
class Load:
    """Who sends what, and the figure that counts."""

    name: str
    kind: str
    clients: int
    figure: str = "texts_per_s"
    unit: str = "texts/s"

    def ratio(self, ours: Figures, theirs: Figures) -> float:
        """How many times as fast ours is."""
        quotient = float(getattr(ours, self.figure) / getattr(theirs, self.figure))
        return quotient if self.unit == "texts/s" else 1 / quotient


LOADS = (
    Load("mixed, 32 clients x 1 text", "mixed", 32),
    Load("mixed, 8 clients x 1 text", "mixed", 8),
    Load("short, 32 clients x 1 text", "short", 32),
    Load("mixed, 4 clients x 32 texts", "mixed, 32 a request", 4),
    Load("short, 1 client x 1 text", "short", 1, "p50_ms", "p50 ms"),
)
Found = dict[tuple[str, str], list[Figures]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--env", type=Path, default=Path(".peers"))
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    traffic = Traffic(options.store, options.model)
    texts = distinct_texts(options.texts)
    kinds = {
        "short": traffic.requests(short_texts(texts)),
        "mixed": traffic.requests(texts),
        "mixed, 32 a request": traffic.requests(texts, 32),
    }
    prepare(options.env)
    with started(options, traffic) as servers, systems(servers, options.seconds) as rigs:
        cosines = check_answers(servers, kinds)
        found = interleaved(rigs, kinds, options.rounds)
        memory_mib = {name: rig.usage.peak_mib() for name, rig in rigs.items()}
    print(f"{machine()}; {', '.join(PINS)}; {options.rounds} rounds of {options.seconds:g} s")
    print(f"{describe(kinds)}\n")
    report(found, list(rigs))
    report_systems(found, memory_mib, cosines)
    refuse_errors(found.values())


@contextmanager
def started(options: argparse.Namespace, traffic: Traffic) -> Iterator[dict[str, Server]]:
    """The servers by name; ours twice if the model has a faster variant."""
    store, model = options.store, options.model
    with ExitStack() as stack:
        servers = {FP32: stack.enter_context(encserve(store, model, variant="fp32"))}
        if len(traffic.manifest.variants) > 1:
            servers[FASTEST] = stack.enter_context(encserve(store, model))
        servers[INFINITY] = stack.enter_context(infinity(options.env, traffic.manifest))
        yield servers


@contextmanager
def systems(servers: Mapping[str, Server], seconds: float) -> Iterator[dict[str, Rig]]:
    """All that is measured, by name."""
    with load_generator() as drive, plain_loop(seconds) as loop:
        rigs = {
            name: Rig(partial(drive, server.url), server.usage, seconds)
            for name, server in servers.items()
        }
        yield rigs | {LOOP: loop}


def check_answers(
    servers: Mapping[str, Server], kinds: Mapping[str, Sequence[Request]]
) -> dict[str, float]:
    """Least cosine with our fp32 vectors, of a request of each kind.

    Raises:
        SystemExit: a peer answers with other vectors: it has other weights, or cuts elsewhere.
    """
    requests = [requests[0] for requests in kinds.values()]
    vectors = {name: vectors_of(server, requests) for name, server in servers.items()}
    cosines = {
        name: float((rows * vectors[FP32]).sum(axis=1).min()) for name, rows in vectors.items()
    }
    if cosines[INFINITY] < LEAST_COSINE:
        raise SystemExit(f"{INFINITY} answers otherwise than {FP32}: cosine {cosines[INFINITY]}")
    return cosines


def interleaved(
    rigs: Mapping[str, Rig], kinds: Mapping[str, Sequence[Request]], rounds: int
) -> Found:
    """Every load on every system in each round, another system first each time."""
    found: Found = defaultdict(list)
    names = list(rigs)
    for rig in rigs.values():
        rig.measure(Stream(kinds["mixed"], clients=8))
    for turn in range(rounds):
        for load in LOADS:
            requests = kinds[load.kind]
            stream = Stream(requests, load.clients, first=turn * len(requests) // rounds)
            for place in range(len(names)):
                name = names[(place + turn) % len(names)]
                found[load.name, name] += rigs[name].measure(stream)
    return found


def report(found: Found, names: Sequence[str]) -> None:
    ours = [name for name in (FP32, FASTEST) if name in names]
    for peer in (INFINITY, LOOP):
        head = ["load", "figure", peer, *ours, *(f"{name}, times" for name in ours)]
        print_table(head, [_row(found, load, peer, ours) for load in LOADS], names=2)


def _row(found: Found, load: Load, peer: str, ours: Sequence[str]) -> list[str]:
    theirs = found[load.name, peer]
    values = [getattr(medians(found[load.name, name]), load.figure) for name in (peer, *ours)]
    ratios = [median(map(load.ratio, found[load.name, name], theirs)) for name in ours]
    cells = [f"{value:.1f}" for value in values] + [f"{ratio:.2f}" for ratio in ratios]
    return [load.name, load.unit, *cells]


def report_systems(
    found: Found, memory_mib: Mapping[str, float], cosines: Mapping[str, float]
) -> None:
    """What each system used under the first load, and how near its vectors are to ours."""
    rows = []
    for name, peak_mib in memory_mib.items():
        used = medians(found[LOADS[0].name, name])
        cosine = f"{cosines[name]:.7f}" if name in cosines else "-"
        rows.append([name, f"{used.cpu_cores:.2f}", f"{peak_mib:.0f}", cosine])
    print_table(["system", "CPU cores, first load", "most MiB", "least cosine with fp32"], rows)


if __name__ == "__main__":
    main()
