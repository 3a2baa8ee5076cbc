"""A real server on loopback, in a thread or a process of its own, and a real HTTP client."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import uvicorn
from prometheus_client import CollectorRegistry
from rich.console import Console

from service.api.app import create_app
from service.api.examples import PATH_PARTS
from service.api.protocol import strict_protocol
from service.live import load_models
from service.metrics import Metrics
from service.offline.export import TrainingRecord, publish
from service.offline.heads import ClassificationModel
from service.offline.progress import Progress
from service.runtime.outputs import ProblemType
from service.settings import load_settings
from service.store.repository import ModelRepository
from service.tracing import open_tracing
from tests.conftest import SENTENCES, only_fp32, tiny_checkpoint

UNEXAMPLED = ("/v1/bulk", "/v1/feedback", "/v2/repository/index")
ENCSERVE = [sys.executable, "-m", "service.cli"]
READY = re.compile(r"encserve is ready on (https?://\S+); try: (curl .*)")


@dataclass(frozen=True)
class LiveServer:
    url: str
    port: int
    store: Path
    registry: CollectorRegistry
    client: httpx2.Client

    def count(self, name: str, **labels: str) -> float:
        """A sample of the registry; 0 where the series does not exist.

        The version is 1 of what a model did, and none where no model was found.
        """
        if "model" in labels:
            labels = {"version": "1" if labels["model"] else "", **labels}
        return self.registry.get_sample_value(name, labels) or 0.0


ServerFactory = Callable[..., LiveServer]


def until(condition: Callable[[], bool]) -> None:
    """What a server does after its answer, such as counting it, is not done when that arrives."""
    give_up_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_s


@contextmanager
def live_server(store: Path, **settings: object) -> Iterator[LiveServer]:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    # Trying a model in a process of its own takes a second; tests of that ask for it.
    configured = load_settings(model_store=store, **{"probe": False} | settings)
    tracing = open_tracing(configured)
    models = load_models(configured, metrics)
    config = uvicorn.Config(
        create_app(configured, models, metrics, tracing),
        http=strict_protocol(configured, metrics),
        log_config=None,
        access_log=False,
        ws="none",
        timeout_keep_alive=configured.keep_alive_s,
    )
    server = uvicorn.Server(config)
    # With the protocol named: asyncio switches Nagle's algorithm off for such sockets only, and
    # without that every answer would be 40 ms late.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listening = threading.Event()
        thread = threading.Thread(target=asyncio.run, args=(_run(server, listener, listening),))
        thread.start()
        try:
            assert listening.wait(timeout=30)
            url = f"http://127.0.0.1:{port}"
            with httpx2.Client(base_url=url, timeout=30) as client:
                yield LiveServer(url, port, store, registry, client)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive()
            if tracing is not None:
                tracing.close()


async def _run(server: uvicorn.Server, listener: socket.socket, listening: threading.Event) -> None:
    startup = server.startup

    async def startup_and_tell(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        listening.set()

    server.startup = startup_and_tell  # type: ignore[method-assign]  # the one hook uvicorn has
    await server.serve(sockets=[listener])


def documented_examples(server: LiveServer) -> list[tuple[str, Any, Any]]:
    """Path, request and answer of each worked example of the OpenAPI page."""
    found = []
    for path, methods in server.client.get("/openapi.json").json()["paths"].items():
        if "post" not in methods:
            continue
        body = methods["post"].get("requestBody", {}).get("content", {}).get("application/json", {})
        if "examples" not in body:
            # Of administration, of lines, of a body that may be left out, of an earlier answer.
            assert path.startswith("/admin/") or path in UNEXAMPLED
            continue
        asked = body["examples"]
        answered = methods["post"]["responses"]["200"]["content"]["application/json"]["examples"]
        assert asked.keys() == answered.keys()
        path = path.format(**PATH_PARTS)
        found += [(path, asked[name]["value"], answered[name]["value"]) for name in asked]
    return found


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[LiveServer]:
    # Without a cache: an answer that is compared with another was computed.
    with live_server(tiny_store, cache_bytes=0) as running:
        yield running


@pytest.fixture
def start_server(tiny_store: Path) -> Iterator[ServerFactory]:
    """A server of the tiny store with settings of the test's own."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(live_server(tiny_store, **settings))


class Process:
    """`encserve serve`; output is collected line by line.

    Args:
        port: 0 takes a free one.
    """

    def __init__(
        self,
        store: Path,
        env: dict[str, str] | None = None,
        *,
        command: Sequence[str] = ENCSERVE,
        port: int = 0,
    ) -> None:
        self.popen = subprocess.Popen(
            [*command, "serve", "--port", str(port), "--model-store", str(store)],
            # Without a balancer, nobody is to be waited for at the end; a test may say otherwise.
            env={"ENCSERVE_DRAIN_S": "0"} | dict(os.environ if env is None else env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            self.lines.append(line)
            if READY.search(line):
                self._ready.set()
        self._ready.set()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def announced(self) -> re.Match[str]:
        assert self._ready.wait(timeout=120)
        found = READY.search(self.output)
        assert found, self.output
        return found

    def end(self, sent: signal.Signals) -> int:
        self.popen.send_signal(sent)
        status = self.popen.wait(timeout=30)
        self._reader.join(timeout=10)
        return status

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._reader.join()
        assert self.popen.stdout
        self.popen.stdout.close()


@pytest.fixture
def process(tiny_store: Path) -> Iterator[Process]:
    started = Process(tiny_store)
    yield started
    started.close()


@pytest.fixture(scope="session")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of one score, a classifier with any number of labels, and a regression."""
    root = tmp_path_factory.mktemp("judges")
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    separator_id = 3
    made: list[tuple[str, tuple[str, ...], ProblemType, int | None]] = [
        ("judge", ("score",), "multi_label", separator_id),
        ("topics", ("food", "trains", "leaves"), "multi_label", None),
        ("grade", ("stars",), "regression", None),
    ]
    progress = Progress(Console(quiet=True))
    for name, labels, problem_type, pair_separator_id in made:
        model = ClassificationModel(checkpoint.encoder, "mean", labels=len(labels)).eval()
        torch.nn.init.normal_(model.classifier.weight)
        record = TrainingRecord(labels, {}, None, None, problem_type, None, (), pair_separator_id)
        inputs: Any = (
            [(a, b) for a in SENTENCES for b in SENTENCES] if pair_separator_id else SENTENCES
        )
        publish(ModelRepository(root), name, model, checkpoint, progress, inputs, only_fp32, record)
    return root
