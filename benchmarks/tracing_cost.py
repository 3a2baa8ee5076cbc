"""What log lines and traces cost: the same calls to applications with and without them, in turns.

    python -m benchmarks.tracing_cost [--without FOLDER] [--store model_store] [--rounds 200]

`--without` is a checkout from before there were any: `git worktree add FOLDER COMMIT`. Each
application lives in a process of its own and is called there, without sockets; a round is a few
dozen calls of each, one after the other in another order, and is compared with itself alone. What
counts is processor time, which neighbours disturb least. One short text, computed or cached.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from benchmarks.common import machine, percentile
from benchmarks.figures import print_table

IN_PROCESS = Path(__file__).with_name("in_process.py")
CALLS = 40
WARM_UP_ROUNDS = 5
LOADS = {"from the cache": "1000000", "computed": "0"}


class Application:
    """An application in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        if self._answer() != '"ready"':
            raise SystemExit("an application did not start")

    def cpu_us(self, calls: int) -> float:
        """Processor time of a call, all threads together."""
        assert self._process.stdin
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        return int(self._answer()) / calls / 1000

    def _answer(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


@contextmanager
def application(folder: Path, variables: Mapping[str, str]) -> Iterator[Application]:
    """The code in `folder`; its log lines go to a file."""
    variables = {"PYTHONPATH": str(folder), "ENCSERVE_MODELS": "embedding", **variables}
    with (
        tempfile.TemporaryFile("w") as log,
        subprocess.Popen(
            [sys.executable, str(IN_PROCESS)],
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield Application(process)
        finally:
            process.kill()


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
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def measure(applications: Mapping[str, Application], rounds: int) -> dict[str, list[float]]:
    """CPU microseconds a call, a value a round."""
    found: dict[str, list[float]] = {name: [] for name in applications}
    rng = random.Random(0)
    for round_ in range(-WARM_UP_ROUNDS, rounds):
        for name in rng.sample(list(applications), k=len(applications)):
            took_us = applications[name].cpu_us(CALLS)
            if round_ >= 0:
                found[name].append(took_us)
    return found


def interval(values: Sequence[float]) -> str:
    """95 % of the medians of as many values drawn from these, again and again."""
    rng = random.Random(0)
    drawn = [median(rng.choices(values, k=len(values))) for _ in range(1000)]
    return f"{percentile(drawn, 0.025):+.1f} to {percentile(drawn, 0.975):+.1f}"


def report(load: str, found: Mapping[str, Sequence[float]]) -> None:
    base = next(iter(found.values()))
    print(f"{load}, {len(base)} rounds of {CALLS} calls:\n")
    rows = []
    for name, values in found.items():
        added = [one - two for one, two in zip(values, base, strict=True)]
        share = [100 * (one / two - 1) for one, two in zip(values, base, strict=True)]
        figures = (f"{median(values):.0f}", f"{median(added):+.1f}", interval(added))
        rows.append([name, *figures, f"{median(share):+.1f}"])
    print_table(["application", "CPU µs a call", "added µs", "95 % interval", "added %"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--without", type=Path)
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    print(f"{machine()}\n")
    with swallowing() as collector:
        quiet = {"ENCSERVE_LOG_LEVEL": "warning", "ENCSERVE_PROBE": "false"}
        traced = quiet | {"ENCSERVE_OTLP_ENDPOINT": collector}
        kinds = [
            ("without the code", options.without, quiet),
            ("off, log level warning", Path.cwd(), quiet),
            ("a log line a request", Path.cwd(), quiet | {"ENCSERVE_LOG_LEVEL": "info"}),
            ("traced: 1 in 10", Path.cwd(), traced | {"ENCSERVE_TRACE_SAMPLE_RATIO": "0.1"}),
            ("traced: all", Path.cwd(), traced | {"ENCSERVE_TRACE_SAMPLE_RATIO": "1"}),
        ]
        for load, cache_bytes in LOADS.items():
            shared = {
                "ENCSERVE_MODEL_STORE": str(options.store.resolve()),
                "ENCSERVE_CACHE_BYTES": cache_bytes,
            }
            with ExitStack() as stack:
                applications = {
                    name: stack.enter_context(application(folder.resolve(), shared | variables))
                    for name, folder, variables in kinds
                    if folder is not None
                }
                report(load, measure(applications, options.rounds))


if __name__ == "__main__":
    main()
