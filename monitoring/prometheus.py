"""Prometheus itself, as a child process with the project's own configuration, and its answers."""

import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

CONFIGURATION = Path(__file__).parents[1] / "docker" / "prometheus"
TARGETS = Path("targets", "encserve.yml")
START_TIMEOUT_S = 30
_LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


@dataclass(frozen=True)
class Series:
    """Labels, and points of (seconds since 1970, value)."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Alert:
    """state: `inactive`, `pending` (its time is not over) or `firing`."""

    name: str
    state: str


class Prometheus:
    """A Prometheus that answers at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx2.Client(base_url=url, timeout=30)

    def value(self, query: str, at_s: float | None = None) -> float:
        """The sum of what a query finds at a moment, now if none is given; 0 of nothing.

        Raises:
            ValueError: Prometheus does not understand it.
        """
        moment = {} if at_s is None else {"time": at_s}
        found = self._ask("query", {"query": query} | moment)["result"]
        return sum(float(one["value"][1]) for one in found)

    def labels(self, query: str) -> list[Mapping[str, str]]:
        """The labels of all that a query finds now. Raises as `value`."""
        return [one["metric"] for one in self._ask("query", {"query": query})["result"]]

    def over(self, query: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """What it has found between two moments, every `step_s`. Raises as `value`."""
        window = {"start": start_s, "end": end_s, "step": step_s}
        found = self._ask("query_range", {"query": query} | window)["result"]
        return [_series(one["metric"], one["values"]) for one in found]

    def alerts(self) -> list[Alert]:
        """Every alert of the rules, whether or not it fires."""
        groups = self._ask("rules", {"type": "alert"})["groups"]
        return [Alert(rule["name"], rule["state"]) for group in groups for rule in group["rules"]]

    def wait_for(
        self,
        condition: Callable[[], bool],
        timeout_s: float,
        what: str,
        *,
        look_every_s: float = 0.02,
    ) -> None:
        """Return once `condition` holds.

        Raises:
            TimeoutError: it does not in time.
        """
        give_up_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"after {timeout_s:g} s still not: {what}")
            time.sleep(look_every_s)

    def wait_for_scrape(self, timeout_s: float) -> float:
        """Return once a scrape is stored that began after this call, and succeeded: its moment."""
        called_s = time.time()
        query = 'max(timestamp(up{job="encserve"}) and up{job="encserve"} == 1)'
        self.wait_for(lambda: self.value(query) > called_s, timeout_s, "a new scrape")
        return self.value(query)

    def close(self) -> None:
        self._client.close()

    def _ask(self, path: str, parameters: dict[str, Any]) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=parameters)
        body = answer.json()
        if body["status"] != "success":
            raise ValueError(f"{body['error']}: {parameters.get('query')}")
        return body["data"]


@contextmanager
def running_prometheus(
    targets: Sequence[str], changes: Mapping[str, str] | None = None
) -> Iterator[Prometheus]:
    """Prometheus with the files of docker/prometheus/, for other targets (HOST:PORT).

    changes: texts of prometheus.yml and what stands in their place; none for the very file.

    Raises:
        RuntimeError: it is not installed, or does not take its configuration.
    """
    command = shutil.which("prometheus")
    if command is None:
        raise RuntimeError("prometheus is missing: apt-get install prometheus")
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder, "configuration")
        shutil.copytree(CONFIGURATION, configuration)
        lines = "".join(f"    - {target}\n" for target in targets)
        (configuration / TARGETS).write_text(f"- targets:\n{lines}")
        file = configuration / "prometheus.yml"
        file.write_text(_changed(file.read_text(), changes or {}))
        process = subprocess.Popen(
            [
                *(command, "--web.listen-address=127.0.0.1:0"),
                *(f"--config.file={file}", f"--storage.tsdb.path={folder}/data"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            prometheus = Prometheus(f"http://{_address_of(process)}")
            # It keeps on writing, and would stop if nobody read.
            threading.Thread(target=_read_on, args=(process,), daemon=True).start()
            yield prometheus
            prometheus.close()
        finally:
            process.terminate()
            process.wait(timeout=30)


def _changed(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"prometheus.yml has no {old!r}")
        text = text.replace(old, new)
    return text


def _address_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr
    said: list[str] = []
    address = ""
    for line in process.stderr:
        said.append(line)
        address = address or next(iter(_LISTENING.findall(line)), "")
        if address and "Server is ready" in line:
            return str(address)
    raise RuntimeError("prometheus did not start:\n" + "".join(said))


def _read_on(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    with process.stderr:
        for _ in process.stderr:
            pass


def _series(labels: Mapping[str, str], points: Sequence[tuple[float, str]]) -> Series:
    return Series(labels, tuple((float(at_s), float(value)) for at_s, value in points))
