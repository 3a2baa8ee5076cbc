"""A server in which all that can be watched goes on, and a Prometheus that watches it."""

import hashlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import listening
from monitoring.prometheus import Prometheus, running_prometheus
from monitoring.seen import Window
from monitoring.traffic import Callers
from monitoring.versions import Versions, copy_with_versions

ADMIN_KEY = "admin of this scene"
# Each caller's key is its name.
CALLERS = ("search", "support", "nightly")
# Tokens a minute, and a share of the queue: nearly all of it, so that in a crowd some meet the end
# of their share and some that of the queue.
LIMITS = "1000000000:0.99"
CANARY_SHARE = 0.3
# What a crowd is there for; whether one is enough depends on how fast the queue is emptied.
REFUSALS = {"overloaded", "rate_limit_exceeded"}
MOST_CROWDS = 20
SCRAPE_S = 5.0
_SCRAPES = f"scrape_interval: {SCRAPE_S:g}s"


@dataclass
class Scene:
    process: subprocess.Popen[str]
    url: str
    prometheus: Prometheus
    versions: Versions
    scrape_s: float
    started_s: float

    @property
    def scrapes(self) -> float:
        """How many have succeeded."""
        return self.prometheus.value('sum_over_time(up{job="encserve"}[1h])')

    def window(self) -> Window:
        """From the start to now."""
        return Window(self.started_s, time.time(), self.scrape_s)

    def wait_until_all_is_scraped(self) -> float:
        """The moment of a scrape that has all; what is counted after the last answer may not be in
        the first one.
        """
        self.prometheus.wait_for_scrape(20 + 4 * self.scrape_s)
        return self.prometheus.wait_for_scrape(20 + 4 * self.scrape_s)

    def stop_server(self) -> int:
        """End the server in order; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def watched_server(
    store: Path,
    variables: Mapping[str, str],
    *,
    scrape_s: float = SCRAPE_S,
    evaluate_s: float | None = None,
) -> Iterator[Scene]:
    """A server of a copy of `store` with more versions, and Prometheus with the project's files.

    With other times than those of the file, the times are all that is changed in it.
    """
    changes = {}
    if scrape_s != SCRAPE_S:
        changes[_SCRAPES] = f"scrape_interval: {round(1000 * scrape_s)}ms"
        changes["scrape_timeout: 4s"] = f"scrape_timeout: {round(1000 * scrape_s)}ms"
    if evaluate_s is not None:
        changes["evaluation_interval: 15s"] = f"evaluation_interval: {round(1000 * evaluate_s)}ms"
    with tempfile.TemporaryDirectory() as folder:
        versions = copy_with_versions(store, Path(folder))
        with _serving(Path(folder), variables) as (process, url):
            started_s = time.time()
            with running_prometheus([url.removeprefix("http://")], changes) as prometheus:
                yield Scene(process, url, prometheus, versions, scrape_s, started_s)


@contextmanager
def _serving(
    store: Path, variables: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in CALLERS}
    known = ",".join(f"{name}:{digest}:{LIMITS}" for name, digest in digests.items())
    keys = {"ENCSERVE_ADMIN_KEY": ADMIN_KEY, "ENCSERVE_API_KEYS": known}
    options = ["--model-store", str(store), "--log-level", "error"]
    with listening(options, {**variables, **keys}) as served:
        yield served


async def play(
    scene: Scene, callers: Callers, waves: Iterable[tuple[int, float]], crowd: tuple[int, int]
) -> None:
    """Traffic in waves of (clients, seconds), with mistakes, a canary and shadows in it; then
    crowds of (requests, texts each) that the queue cannot take, and a version that cannot be
    loaded.
    """
    versions = scene.versions
    for model in ("embedding", "sentiment"):
        await callers.change(model, "shadow", version=versions.shadow)
    await callers.change("embedding", "canary", version=versions.canary, share=CANARY_SHARE)
    await callers.err()
    for clients, seconds in waves:
        await callers.send(clients, seconds)
    for _ in range(MOST_CROWDS):
        await callers.crowd(*crowd)
        if callers.outcomes >= REFUSALS:
            break
    await callers.change("sentiment", "load", version=versions.broken)
