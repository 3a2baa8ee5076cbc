"""Servers as a supervisor runs them, each on a port that it keeps over its restarts."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx2

from tests.integration.conftest import ENCSERVE

START_S = 60
LOOK_S = 0.02


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Replica:
    """`encserve serve`, which may be stopped, killed and started again under its address."""

    def __init__(self, store: Path, log: Path, **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._command = [*ENCSERVE, "serve", "--port", str(self.port), "--model-store", str(store)]
        self._env = os.environ | variables
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self._env, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_until_ready(self) -> None:
        give_up_s = time.monotonic() + START_S
        while not self.ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < give_up_s
            time.sleep(LOOK_S)

    def ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self) -> int:
        """SIGTERM, and the status it ends with."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def restart(self) -> int:
        """As a rolling restart does it: stopped in order, and started until it is ready."""
        status = self.stop()
        self.start()
        self.wait_until_ready()
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
