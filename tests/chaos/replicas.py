"""Servers as a supervisor runs them, each on a port that it keeps over its restarts."""

import os
import signal
from pathlib import Path

from benchmarks.processes import free_port
from tests.integration.conftest import Process


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
