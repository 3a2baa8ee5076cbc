"""Servers as a supervisor runs them, each on a port that it keeps over its restarts."""

import asyncio
import os
import re
import signal
from pathlib import Path

import httpx2

from benchmarks.lean_client import post_bytes
from benchmarks.processes import free_port
from tests.integration.conftest import Process, until

CLIENTS = 16
MEASURE_S = 5.0
# Answers of a replica by which it is known to be in use.
IN_USE = 50


class Replica:
    """`encserve serve`, which may be stopped, killed and started again under its address."""

    def __init__(self, store: Path, **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._store = store
        self._env = os.environ | variables
        self.start()

    def start(self) -> None:
        self.process = Process(self._store, self._env, port=self.port)

    def wait_until_ready(self) -> None:
        self.process.announced()

    def stop(self) -> int:
        """SIGTERM, and the status it ends with."""
        status = self.process.end(signal.SIGTERM)
        self.process.close()
        return status

    def kill(self) -> None:
        self.process.close()

    def restart(self) -> int:
        """As a rolling restart does it: stopped in order, and started until it is ready."""
        status = self.stop()
        self.start()
        self.wait_until_ready()
        return status

    def close(self) -> None:
        self.process.close()


def request(number: int) -> bytes:
    return post_bytes("/v1/embeddings", b'{"input": ["the food %d", "a train"]}' % number)


async def until_asked(replica: Replica) -> None:
    """Until its balancer has sent it some requests, since it was started."""
    await asyncio.to_thread(until, lambda: answered(replica) >= IN_USE)


def answered(replica: Replica) -> float:
    page = httpx2.get(f"{replica.url}/metrics").text
    found = re.findall(r'^encserve_slo_requests_total{.*fault="none".*} (\S+)$', page, re.MULTILINE)
    return sum(map(float, found))
