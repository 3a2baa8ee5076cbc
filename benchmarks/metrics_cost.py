"""What counting costs: a server whose counting is switched on and off.

    python -m benchmarks.metrics_cost [--pairs 40] [--seconds 1] [--clients 8] [--scrape-every 5]

It counts in one turn of a pair and not in the other, and the order changes from pair to pair. Two
servers side by side, one of them silent, differ by a percent or two even if both are: where their
memory lies is luck. While it counts it is scraped, as often as in compose unless told otherwise.
Beside the throughput stands the server's processor time of a request, which other work on the
machine disturbs less.
"""

import argparse
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import httpx2

from benchmarks.common import STORE, machine
from benchmarks.generator import Drive, Stream, load_generator
from benchmarks.processes import Usage, listening
from benchmarks.traffic import Request, Traffic, distinct_texts, short_texts

SCRAPE_EVERY_S = 5.0
RESAMPLES = 2000
SWITCHED = [sys.executable, "-m", "benchmarks.switched_server"]


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
    turns_a_scrape = max(1, round(options.scrape_every / options.seconds))
    scrapes: list[Future[None]] = []
    with serving(options.store, cache_bytes) as server, ThreadPoolExecutor(1) as scraper:

        def turn(number: int, counts: bool) -> Turn:
            server.switch(counts)
            if counts and number % turns_a_scrape == 0:
                scrapes.append(scraper.submit(server.scrape))
            stream = Stream(requests, clients=options.clients, first=97 * number)
            before_s = server.usage.cpu_s()
            (sent,) = drive(server.url, [stream], options.seconds)
            if sent.errors or sent.refused:
                raise SystemExit(f"{sent.errors} errors, {sent.refused} refused")
            return Turn(len(sent.latencies_s), sent.took_s, server.usage.cpu_s() - before_s)

        turn(0, counts=True)
        pairs: list[Pair] = []
        for number in range(options.pairs):
            if number % 2:
                silent = turn(number, counts=False)
                pairs.append((turn(number, counts=True), silent))
            else:
                pairs.append((turn(number, counts=True), turn(number, counts=False)))
        for scrape in scrapes:
            scrape.result()
        return pairs


@dataclass(frozen=True)
class Switched:
    """A server of `benchmarks.switched_server`."""

    url: str
    process_id: int

    @property
    def usage(self) -> Usage:
        return Usage(self.process_id)

    def switch(self, counts: bool) -> None:
        """Takes effect before a request that is sent after it is answered."""
        os.kill(self.process_id, signal.SIGUSR2 if counts else signal.SIGUSR1)

    def scrape(self) -> None:
        httpx2.get(f"{self.url}/metrics", timeout=30).raise_for_status()


@contextmanager
def serving(store: Path, cache_bytes: int) -> Iterator[Switched]:
    options = ["--models", "embedding", "--log-level", "warning", "--model-store", str(store)]
    settings = {"ENCSERVE_CACHE_BYTES": str(cache_bytes)}
    with listening(options, settings, program=SWITCHED) as (process, url):
        yield Switched(url, process.pid)


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
