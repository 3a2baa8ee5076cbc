"""What counting costs: the same server with its metrics, and with metrics that do nothing.

    python -m benchmarks.metrics_cost [--pairs 40] [--seconds 1] [--clients 8] [--scrape-every 5]

Both servers run all the time; one of them gets the load, in turns, and the order changes from pair
to pair. The one that counts is scraped meanwhile, as often as in compose unless told otherwise.
Beside the throughput stands the server's processor time of a request, which other work on the
machine disturbs less.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event, Thread

import httpx2

from benchmarks.common import STORE, machine
from benchmarks.generator import Drive, Stream, load_generator
from benchmarks.processes import ENCSERVE, Server, Usage, listening
from benchmarks.traffic import Request, Traffic, distinct_texts, short_texts

SCRAPE_EVERY_S = 5.0
RESAMPLES = 2000
SILENT = [sys.executable, "-m", "benchmarks.silent_server"]


@dataclass(frozen=True)
class Turn:
    """A second or so of load on one server."""

    requests: int
    took_s: float
    cpu_s: float


Pair = tuple[Turn, Turn]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--scrape-every", type=float, default=SCRAPE_EVERY_S, help="seconds")
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    traffic = Traffic(options.store, "embedding")
    texts = distinct_texts(None)
    short = short_texts(texts)
    print(
        f"{machine()}; {options.pairs} pairs of {options.seconds:g} s, {options.clients} clients\n"
    )
    print("| load | requests/s | throughput without, times | µs of CPU a request | of it metrics |")
    print("|---|---:|---:|---:|---:|")
    with load_generator() as drive:
        measure = partial(pairs_of, drive, options)
        for name, texts_sent, cache_bytes in (
            ("mixed texts", texts, 0),
            ("short texts", short, 0),
            ("one text, from the cache", short[:1], 2**20),
        ):
            print(row(name, measure(traffic.requests(texts_sent), cache_bytes)), flush=True)


def pairs_of(
    drive: Drive, options: argparse.Namespace, requests: Sequence[Request], cache_bytes: int
) -> list[Pair]:
    """(with metrics, without) for each pair of turns."""
    with (
        serving(ENCSERVE, options.store, cache_bytes) as counting,
        serving(SILENT, options.store, cache_bytes) as silent,
        scraped(counting.url, options.scrape_every),
    ):

        def turn(server: Server, number: int) -> Turn:
            stream = Stream(requests, clients=options.clients, first=97 * number)
            before_s = server.usage.cpu_s()
            (sent,) = drive(server.url, [stream], options.seconds)
            if sent.errors or sent.refused:
                raise SystemExit(f"{sent.errors} errors, {sent.refused} refused")
            return Turn(len(sent.latencies_s), sent.took_s, server.usage.cpu_s() - before_s)

        for server in (counting, silent):
            turn(server, 0)
        pairs: list[Pair] = []
        for number in range(options.pairs):
            if number % 2:
                last = turn(silent, number)
                pairs.append((turn(counting, number), last))
            else:
                pairs.append((turn(counting, number), turn(silent, number)))
        return pairs


@contextmanager
def serving(program: Sequence[str], store: Path, cache_bytes: int) -> Iterator[Server]:
    options = ["--models", "embedding", "--log-level", "warning", "--model-store", str(store)]
    settings = {"ENCSERVE_CACHE_BYTES": str(cache_bytes)}
    with listening(options, settings, program=program) as (process, url):
        yield Server(url, Usage(process.pid))


@contextmanager
def scraped(url: str, every_s: float) -> Iterator[None]:
    """The server's metrics are read so often, as by Prometheus."""
    over = Event()

    def scrape() -> None:
        with httpx2.Client(timeout=30) as client:
            while not over.wait(every_s):
                client.get(f"{url}/metrics").raise_for_status()

    thread = Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def row(name: str, pairs: Sequence[Pair]) -> str:
    rate = median(counting.requests / counting.took_s for counting, _ in pairs)
    cpu_us = cpu_of(0, pairs)
    cells = (f"{rate:.0f}", with_interval(times_as_fast, pairs), f"{cpu_us:.0f}")
    return f"| {name} | " + " | ".join([*cells, with_interval(share_of_cpu, pairs)]) + " |"


def times_as_fast(pairs: Sequence[Pair]) -> float:
    """How many times the throughput is without metrics, the median of the pairs."""
    return median(
        (silent.requests / silent.took_s) / (counting.requests / counting.took_s)
        for counting, silent in pairs
    )


def cpu_of(side: int, pairs: Sequence[Pair]) -> float:
    """Processor time of a request, µs, of the one (0) or the other (1) server."""
    turns = [pair[side] for pair in pairs]
    return 1e6 * sum(turn.cpu_s for turn in turns) / sum(turn.requests for turn in turns)


def share_of_cpu(pairs: Sequence[Pair]) -> float:
    """What of the processor time of a request is for metrics."""
    return 1 - cpu_of(1, pairs) / cpu_of(0, pairs)


def with_interval(figure: Callable[[Sequence[Pair]], float], pairs: Sequence[Pair]) -> str:
    """The figure and where 95 of 100 resamplings of the pairs have it."""
    rng = random.Random(0)
    drawn = sorted(figure(rng.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    low, high = drawn[RESAMPLES // 40], drawn[-RESAMPLES // 40]
    return f"{figure(pairs):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
