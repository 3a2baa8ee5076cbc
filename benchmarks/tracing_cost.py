"""What log lines and traces cost: the same requests to servers with and without them, in turns.

    python -m benchmarks.tracing_cost [--without FOLDER] [--store model_store] [--rounds 15]

`--without` is a checkout from before there were any: `git worktree add FOLDER COMMIT`. All servers
are up, one is asked at a time, in another order each round. What counts is the processor time that
a server takes for a request, as neighbours on a shared machine disturb it least; each round is
compared with its own. Two loads: short texts that are computed, and texts that are in the cache,
where what is added to a request has nowhere to hide.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from benchmarks.common import READY, machine, percentile
from benchmarks.figures import print_table
from benchmarks.generator import Drive, Stream, load_generator
from benchmarks.processes import Usage, child
from benchmarks.traffic import Request, Traffic, distinct_texts, short_texts

CLIENTS = 8
SECONDS = 1.0
CACHED_TEXTS = 64
OFF, WITHOUT = "off, log level warning", "without the code"


@dataclass(frozen=True)
class Served:
    url: str
    usage: Usage


@contextmanager
def served(store: Path, folder: Path, variables: Mapping[str, str]) -> Iterator[Served]:
    """A server of the code in `folder`; its log lines go to a file."""
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--models", "embedding"]
    command += ["--model-store", str(store)]
    with (
        tempfile.TemporaryFile("w") as log,
        child(
            command, variables, stdout=subprocess.PIPE, stderr=log.fileno(), folder=folder
        ) as process,
    ):
        assert process.stdout
        line = next((line for line in process.stdout if line.startswith(READY)), "")
        if not line:
            raise SystemExit(f"no server of {folder} started")
        yield Served(line.removeprefix(READY).partition(";")[0], Usage(process.pid))


@contextmanager
def swallowing() -> Iterator[str]:
    """A collector that takes spans and forgets them; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def cpu_us(drive: Drive, server: Served, requests: Sequence[Request], first: int) -> float:
    """Processor time of the server for one request."""
    before_ns = cpu_ns(server.usage.pid)
    stream = Stream(requests, clients=CLIENTS, first=first)
    (sent,) = drive(server.url, [stream], SECONDS)
    if sent.errors or sent.refused:
        raise SystemExit(f"{sent.errors} errors, {sent.refused} refused")
    return (cpu_ns(server.usage.pid) - before_ns) / len(sent.latencies_s) / 1000


def cpu_ns(pid: int) -> int:
    """Of all threads that live: finer than the ticks of a process's own figure."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % of the medians of as many values drawn from these, again and again."""
    rng = random.Random(0)
    drawn = [median(rng.choices(values, k=len(values))) for _ in range(2000)]
    return percentile(drawn, 0.025), percentile(drawn, 0.975)


def measure(
    servers: Mapping[str, Served], loads: Mapping[str, Sequence[Request]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """CPU microseconds a request, by load and server, a value a round."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    rng = random.Random(0)
    with load_generator() as drive:
        for round_ in range(-1, rounds):
            for load, requests in loads.items():
                for name in rng.sample(list(servers), k=len(servers)):
                    took_us = cpu_us(drive, servers[name], requests, max(round_, 0) * 997)
                    # The round before the first warms up.
                    if round_ >= 0:
                        found[load][name].append(took_us)
    return found


def report(found: Mapping[str, Mapping[str, Sequence[float]]], base: str) -> None:
    for load, by_server in found.items():
        print(f"{load}, {CLIENTS} clients, {len(by_server[base])} rounds of {SECONDS:g} s:\n")
        rows = []
        for name, values in by_server.items():
            added = [one - two for one, two in zip(values, by_server[base], strict=True)]
            share = [one / two - 1 for one, two in zip(values, by_server[base], strict=True)]
            low, high = interval(share)
            figures = (f"{median(values):.0f}", f"{median(added):+.0f}")
            percent = (f"{100 * median(share):+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}")
            rows.append([name, *figures, *percent])
        print_table(["server", "CPU µs a request", "added µs", "added %", "95 % interval"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--without", type=Path)
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    store, here = options.store.resolve(), Path.cwd()
    traffic = Traffic(store, "embedding")
    short = short_texts(distinct_texts(None))
    # The computed ones come again only after more texts than the cache of this run holds.
    loads = {
        "cached texts": traffic.requests(short[:CACHED_TEXTS]),
        "short texts": traffic.requests(short[CACHED_TEXTS:]),
    }
    quiet = {"ENCSERVE_LOG_LEVEL": "warning"}
    small_cache = {"ENCSERVE_CACHE_BYTES": str(CACHED_TEXTS * 4096)}
    with ExitStack() as stack:
        traced = quiet | {"ENCSERVE_OTLP_ENDPOINT": stack.enter_context(swallowing())}
        kinds = [
            (WITHOUT, options.without, quiet),
            (OFF, here, quiet),
            ("a log line a request", here, {}),
            ("traced: 1 in 10", here, traced | {"ENCSERVE_TRACE_SAMPLE_RATIO": "0.1"}),
            ("traced: all", here, traced | {"ENCSERVE_TRACE_SAMPLE_RATIO": "1"}),
        ]
        servers = {
            name: stack.enter_context(served(store, folder.resolve(), small_cache | variables))
            for name, folder, variables in kinds
            if folder is not None
        }
        print(f"{machine()}\n")
        report(measure(servers, loads, options.rounds), next(iter(servers)))


if __name__ == "__main__":
    main()
