"""`encserve top`: what a running server does, in the terminal, from its /metrics."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.access.keys import key_to_send
from service.cli.common import app, examples, settings_of
from service.cli.top_frame import Frame, ModelRow, Scrape, frame
from service.masking import address_shown

TIMEOUT_S = 10
UNKNOWN = "-"
# What asking a server may end in, see `scrape`.
UNANSWERED = (OSError, HTTPException, ValueError)


@app.command(
    epilog=examples(
        "encserve top",
        "encserve top http://10.0.0.7:8080 --interval 5",
        "encserve top --once",
    )
)
def top(
    server: Annotated[str, typer.Argument(help="Where it serves.")] = "http://127.0.0.1:8080",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds that a frame covers.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame, and end.")] = False,
) -> None:
    """Watch a running server: texts and latencies by model, queue, batches, cache, memory.

    Where its metrics ask for a key, ENCSERVE_METRICS_KEY (or _FILE) is the server's.
    """
    if not server.startswith(("http://", "https://")):
        raise typer.BadParameter("the server is a URL, such as http://127.0.0.1:8080")
    settings = settings_of()
    key = key_to_send(settings.metrics_key.get_secret_value(), settings.metrics_key_file)
    url = server.rstrip("/") + "/metrics"
    server = address_shown(server)
    console = Console()
    try:
        before = scrape(url, key)
        if once:
            time.sleep(interval)
            console.print(drawn(frame(before, scrape(url, key)), server))
            return
    except UNANSWERED as error:
        typer.echo(f"no metrics at {address_shown(url)}: {told(error)}", err=True)
        raise typer.Exit(1) from None
    try:
        watch(server, lambda: scrape(url, key), before, interval, console)
    except KeyboardInterrupt:
        return


def watch(
    server: str, ask: Callable[[], Scrape], before: Scrape, interval_s: float, console: Console
) -> None:
    """A new frame every interval, until the user ends it; a server that is away may come back."""
    with Live(Text("…"), console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            time.sleep(interval_s)
            try:
                now = ask()
            except UNANSWERED as error:
                live.update(Text(f"{server}: {told(error)}; asking again", "red"), refresh=True)
                continue
            live.update(drawn(frame(before, now), server), refresh=True)
            before = now


def scrape(url: str, key: str = "") -> Scrape:
    """Fetch and parse a page.

    Raises:
        OSError: nothing answers there, or with another status than 200.
        HTTPException: what answers there is no HTTP, or breaks off.
        ValueError: it is no page of metrics.
    """
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:
            page = Scrape.of(answer.read().decode(), time.monotonic())
    except urllib.error.HTTPError as error:
        # It holds the connection.
        error.close()
        raise
    if "encserve_workers" not in page.samples:
        raise ValueError("it is no encserve")
    return page


def told(error: Exception) -> str:
    """One line; a page that is none of metrics is not quoted."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}" + (
            ": set ENCSERVE_METRICS_KEY to the server's key" if error.code == 401 else ""
        )
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, HTTPException):
        return f"no whole answer of HTTP ({type(error).__name__})"
    return str(error) if isinstance(error, OSError) else "it is no page of encserve's metrics"


def drawn(found: Frame, server: str) -> RenderableType:
    """The frame as lines and a table."""
    head = Text.assemble(
        (server, "bold"),
        f"  {found.requests_per_s:.1f} requests/s",
        (f"  {found.failed_per_s:.1f} failed/s", "red" if found.failed_per_s else ""),
        f"  over {found.seconds:.1f} s",
    )
    state = (
        f"workers {found.workers_busy:.0f}/{found.workers:.0f} busy   "
        f"cache {_mib(found.cache_bytes)}   "
        f"memory {_mib(found.memory_bytes)} of {_mib(found.memory_limit_bytes)}   "
        f"event loop late p99 {_ms(found.lag_p99_s)} ms"
    )
    table = Table(
        *("model", "texts/s", "tokens/s", "p50 ms", "p99 ms", "queue", "texts/batch"),
        *("tokens/batch", "padding", "cached", "rejected/s"),
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in found.models:
        table.add_row(*_cells(row))
    return Group(head, Text(state), table)


def _cells(row: ModelRow) -> tuple[str, ...]:
    return (
        f"{row.model}@{row.version} {row.variant}",
        f"{row.texts_per_s:.1f}",
        f"{row.tokens_per_s:.0f}",
        _ms(row.p50_s),
        _ms(row.p99_s),
        f"{row.queue_texts:.0f}",
        _number(row.batch_texts),
        _number(row.batch_tokens),
        _percent(row.padding),
        _percent(row.cached),
        f"{row.rejected_per_s:.1f}",
    )


def _ms(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds * 1000:.1f}"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share:.0%}"


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
