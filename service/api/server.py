"""The process around the application: logging, signals, uvicorn, and one line that says ready."""

import asyncio
import ipaddress
import logging
import signal
import socket
import sys

import typer
import uvicorn
from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from service.access.gate import keys_of
from service.api.app import create_app
from service.api.draining import DrainingServer
from service.api.listening import ListeningConfig, listening_sockets
from service.api.open_files import allow_files
from service.api.protocol import SPARE_CONNECTIONS, strict_protocol
from service.api.startup import log_loaded, log_settings
from service.api.tls import tls_context
from service.live import LiveModels, load_models
from service.logs import set_up_logging
from service.metrics import Metrics
from service.registry import EngineRegistry
from service.runtime.memory_limit import memory_limit_bytes
from service.settings import Settings
from service.tracing import open_tracing

logger = logging.getLogger(__name__)

# After the grace, time to write the answers that say so.
LAST_ANSWERS_S = 2


def run_server(settings: Settings) -> None:
    """Load the models, serve until SIGTERM or SIGINT, drain, return.

    Raises:
        StoreError: a model is missing or damaged; nothing was served.
        KeysInvalid: keys, or the files of TLS, are not as they should be.
        TracingUnavailable: traces are asked for, and what makes them is not installed.
    """
    set_up_logging(settings.log_level, settings.log_format, sys.stderr)
    log_settings(settings)
    # uvicorn drains, then raises the signal again for whoever handled it before: a stop in order
    # is a success, also while models are loading.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    allow_files(settings.max_connections + SPARE_CONNECTIONS)
    names = [key.name for key in keys_of(settings)]
    logger.info("API keys: %s", ", ".join(names) or "none, everybody may ask")
    tls = tls_context(settings)
    metrics = Metrics(_process_registry())
    metrics.memory_limit.set(memory_limit_bytes())
    tracing = open_tracing(settings)
    models = load_models(settings, metrics)
    log_loaded(settings, models, traced=tracing is not None)
    config = ListeningConfig(
        create_app(settings, models, metrics, tracing),
        settings.header_timeout_s,
        host=settings.host,
        port=settings.port,
        http=strict_protocol(settings, metrics),
        ws="none",
        log_config=None,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        # Nothing here asks who the caller is.
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_grace_s + LAST_ANSWERS_S,
        ssl_context_factory=None if tls is None else lambda config, default: tls,
    )
    try:
        _Server(config, models, settings).run(listening_sockets(config))
    finally:
        if tracing is not None:
            tracing.close()


class _Server(DrainingServer):
    """uvicorn, which says where to try it once it listens, and stops in order."""

    def __init__(self, config: uvicorn.Config, models: LiveModels, settings: Settings) -> None:
        super().__init__(config, models.engines.leave, settings.drain_s)
        self._models = models
        self._engines = models.engines
        self._grace_s = settings.shutdown_grace_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._follow_store)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        scheme = "https" if self.config.is_ssl else "http"
        url = f"{scheme}://{_reachable(host)}:{port}"
        typer.echo(f"encserve is ready on {url}; try: {_try_it(url, self._engines)}")

    def _follow_store(self) -> None:
        """SIGHUP: serve what is current in the store by now."""
        self._following = asyncio.ensure_future(self._models.follow_store())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, answer what is in flight, fail what outlives the grace."""
        self._engines.drain()
        grace = asyncio.create_task(self._end_grace())
        await super().shutdown(sockets)
        grace.cancel()

    async def _end_grace(self) -> None:
        await asyncio.sleep(self._grace_s)
        await self._engines.close()


def _process_registry() -> CollectorRegistry:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def _reachable(host: str) -> str:
    """An address to call a server at that listens on `host`."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"[{address}]" if address.version == 6 else str(address)


def _try_it(url: str, engines: EngineRegistry) -> str:
    """A command that the first loaded model answers, sentiment before others."""
    tasks = {engine.name: engine.manifest.task for engine in engines}
    name = "sentiment" if "sentiment" in tasks else next(iter(tasks))
    path = {"embedding": "embeddings", "classification": "classify"}[tasks[name]]
    path = "sentiment" if name == "sentiment" else path
    body = f'{{"input": "What a lovely day!", "model": "{name}"}}'
    return f"curl {url}/v1/{path} -H 'Content-Type: application/json' -d '{body}'"
