"""The process around the application: logging, signals, uvicorn, and one line that says ready."""

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

from service.api.app import create_app
from service.engine import load_engines
from service.metrics import Metrics
from service.settings import Settings


def run_server(settings: Settings) -> None:
    """Load the models, serve until SIGTERM or SIGINT, drain, return.

    Raises:
        StoreError: a model is missing or damaged; nothing was served.
    """
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # uvicorn drains, then raises the signal again for whoever handled it before: a stop in order
    # is a success, also while models are loading.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    metrics = Metrics(_process_registry())
    engines = load_engines(settings, metrics)
    config = uvicorn.Config(
        create_app(settings, engines, metrics),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    _Server(config).run()


class _Server(uvicorn.Server):
    """uvicorn, which says where to try it once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        typer.echo(f"encserve is ready on http://{host}:{port}; try: {_try_it(host, port)}")


def _process_registry() -> CollectorRegistry:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def _try_it(host: str, port: int) -> str:
    return (
        f"curl http://{host}:{port}/v1/sentiment -H 'Content-Type: application/json' "
        """-d '{"input": "What a lovely day!"}'"""
    )
