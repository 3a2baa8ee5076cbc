"""Servers as child processes, and what the kernel says that they use."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

READY = "encserve is ready on "
ENCSERVE = (sys.executable, "-m", "service.cli")
START_TIMEOUT_S = 120


@dataclass(frozen=True)
class Usage:
    """Processor time and memory of a process, all its threads together."""

    pid: int

    def cpu_s(self) -> float:
        # Behind the name in parentheses: state is the first field, then user and system time.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def main_thread_s(self) -> float:
        """Of the thread that the process began with: our server's event loop runs in it."""
        return self._schedule(self.pid)[0]

    def main_thread_waited_s(self) -> float:
        """How long that thread had something to do and no core yet."""
        return self._schedule(self.pid)[1]

    def waited_s(self) -> float:
        """The same of all threads that there are now."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(self._schedule(int(thread.name))[1] for thread in threads)

    def _schedule(self, thread: int) -> tuple[float, float]:
        counted = Path(f"/proc/{self.pid}/task/{thread}/schedstat").read_text().split()
        return int(counted[0]) / 1e9, int(counted[1]) / 1e9

    def memory_mib(self) -> float:
        return self._status_mib("VmRSS")

    def peak_mib(self) -> float:
        return self._status_mib("VmHWM")

    def _status_mib(self, name: str) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


@dataclass(frozen=True)
class Server:
    """A server that answers at `url`."""

    url: str
    usage: Usage


@contextmanager
def encserve(
    store: Path, model: str, *options: str, variant: str = "", before: Sequence[str] = ()
) -> Iterator[Server]:
    """Our server with one model and without a cache; `variant` "" is its fastest.

    Args:
        before: a command that runs the server's, such as taskset.
    """
    settings = {"ENCSERVE_CACHE_BYTES": "0", "ENCSERVE_VARIANT": variant}
    served = ["--models", model, "--model-store", str(store), "--log-level", "warning", *options]
    with listening(served, settings, program=[*before, *ENCSERVE]) as (process, url):
        yield Server(url, Usage(process.pid))


@contextmanager
def listening(
    options: Sequence[str],
    variables: Mapping[str, str] = MappingProxyType({}),
    *,
    program: Sequence[str] = ENCSERVE,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`encserve serve` on a free port, and its address, once it is ready; ended with the block.

    Without a balancer nobody is to be waited for at its end, unless the variables say so.
    """
    command = [*program, "serve", "--port", "0", *options]
    variables = {"ENCSERVE_DRAIN_S": "0", **variables}
    with child(command, variables, stdout=subprocess.PIPE) as process:
        assert process.stdout
        with process.stdout:
            line = next((line for line in process.stdout if line.startswith(READY)), "")
            if not line:
                raise SystemExit("encserve did not start")
            yield process, line.removeprefix(READY).partition(";")[0]


@contextmanager
def child(
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    stdout: int,
    stderr: int | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A process with more variables than ours, in a folder; ended with the block."""
    process = subprocess.Popen(
        command, env=os.environ | variables, cwd=folder, stdout=stdout, stderr=stderr, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of the loopback address that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_listening(process: subprocess.Popen[str], port: int) -> None:
    """Return when something accepts connections at `port`; give up when the process has ended."""
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_s and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit(f"nothing listens on port {port}: the server did not start")
