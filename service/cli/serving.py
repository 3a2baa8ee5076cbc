"""`encserve serve` and what belongs to it: settings, openapi, tune, promote."""

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.common import Store, app, examples, settings_of
from service.masking import address_shown, settings_shown
from service.settings import ENV_PREFIX, Settings
from service.store.repository import ModelRepository

if TYPE_CHECKING:
    from urllib.error import HTTPError


@app.command(
    epilog=examples(
        "encserve serve",
        "encserve serve --port 9000 --model sentiment --model embedding@2",
        "encserve serve --watch 5 --aliases text-embedding-3-small=embedding",
        "ENCSERVE_MAX_QUEUE_TOKENS=65536 encserve serve --host 0.0.0.0",
    ),
)
def serve(
    host: Annotated[str | None, typer.Option(help="Address. (env ENCSERVE_HOST)")] = None,
    port: Annotated[int | None, typer.Option(help="0: a free one. (env ENCSERVE_PORT)")] = None,
    model_store: Store = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "--models",
            help="Name, name@version, or several with commas; may be repeated. Without it all of "
            "the store. (env ENCSERVE_MODELS)",
        ),
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option(help="Seconds between looks for new current versions. (env ENCSERVE_WATCH_S)"),
    ] = None,
    aliases: Annotated[
        str | None, typer.Option(help="alias=model, comma-separated. (env ENCSERVE_ALIASES)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Runs side by side. (env ENCSERVE_WORKERS)")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="(env ENCSERVE_LOG_LEVEL)")] = None,
    log_format: Annotated[
        str | None, typer.Option(help="auto, json or text. (env ENCSERVE_LOG_FORMAT)")
    ] = None,
) -> None:
    """Serve the published models over HTTP. `encserve settings` lists every setting."""
    settings = settings_of(
        host=host,
        port=port,
        model_store=model_store,
        models=",".join(model) if model else None,
        aliases=aliases,
        watch_s=watch,
        workers=workers,
        log_level=log_level,
        log_format=log_format,
    )
    # One request is tokenized by one thread: the library's own pool would contend with the model
    # runs, and a variable is its only switch.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if settings.sources:
        from service.cli.store import fetch_sources

        fetch_sources(settings)
    from service.api.server import run_server

    run_server(settings)


@app.command(
    "openapi",
    epilog=examples(
        "encserve openapi > openapi.json",
    ),
)
def show_openapi() -> None:
    """Print the OpenAPI document of the service, which is the same whatever models it serves."""
    import json

    from prometheus_client import CollectorRegistry

    from service.api.app import create_app
    from service.batching.workers import WorkerPool
    from service.live import LiveModels
    from service.loading import Loader
    from service.metrics import Metrics
    from service.registry import EngineRegistry

    pool = WorkerPool(1)
    settings, metrics = Settings(), Metrics(CollectorRegistry())
    loader = Loader(ModelRepository(settings.model_store), pool, None, settings, metrics)
    models = LiveModels(EngineRegistry([], pool), loader, settings, metrics)
    document = create_app(settings, models, metrics).openapi()
    pool.close()
    print(json.dumps(document, indent=1, ensure_ascii=False))


@app.command(
    "settings",
    epilog=examples(
        "encserve settings",
        "ENCSERVE_PORT=9000 encserve settings",
    ),
)
def show_settings() -> None:
    """List every setting of the server: variable, value now, meaning."""
    table = Table("variable", "value", "meaning")
    for name, value in settings_shown(settings_of()).items():
        description = Settings.model_fields[name].description
        table.add_row(ENV_PREFIX + name.upper(), str(value), description)
    Console().print(table)


@app.command(epilog=examples("encserve key alice", "encserve key batch-jobs"))
def key(
    name: Annotated[str, typer.Argument(help="Of the caller; it appears in metrics and logs.")],
) -> None:
    """Make an API key: the key, for the caller, and the line that lets it in, for the server."""
    from service.access.keys import make_key

    made, line = make_key(name)
    typer.echo(f"key:  {made}\nline: {line}")
    typer.echo(
        "The key is shown this once. Add the line to ENCSERVE_API_KEYS_FILE; "
        ":TOKENS_PER_MINUTE and :SHARE of the queue may follow.",
        err=True,
    )


@app.command(
    epilog=examples(
        "encserve tune",
        "encserve tune sentiment --seconds 60",
    ),
)
def tune(
    names: Annotated[list[str] | None, typer.Argument(help="Models. (default: all)")] = None,
    variant: Annotated[str | None, typer.Option(help="(default: the one that is served)")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Time for each model.")] = 20,
    model_store: Store = None,
) -> None:
    """Measure how runs are best shaped on this processor; the server does so from its next start.

    Nothing else should run meanwhile.
    """
    from service import tuning
    from service.loading import variant_to_serve

    settings = settings_of(model_store=model_store, variant=variant)
    if settings.provider != "cpu":
        raise typer.BadParameter("tuning is for the CPU: unset ENCSERVE_PROVIDER")
    repository = ModelRepository(settings.model_store)
    console = Console(stderr=True, highlight=False)
    for name in names or repository.names():
        model = repository.resolve(name)
        chosen = variant_to_serve(model.manifest, settings)
        measured = tuning.measure(model, chosen, seconds=seconds, advance=console.print)
        best = tuning.best(measured)
        path = tuning.write_shape(model, chosen, best)
        table = Table("runs side by side", "threads a run", "tokens a run", "tokens/s", "")
        for one in measured:
            shape = one.shape
            row = (shape.workers, shape.threads, shape.max_batch_tokens, round(one.tokens_per_s))
            table.add_row(*map(str, row), "chosen" if one is best else "")
        Console().print(f"{name}, {chosen}:", table, f"kept in {path}", sep="\n")


@app.command(
    epilog=examples(
        "encserve promote sentiment",
        "encserve promote sentiment --server http://10.0.0.7:8080 --min-texts 1000",
    ),
)
def promote(
    name: Annotated[str, typer.Argument(help="Model that has a shadow.")],
    server: Annotated[str, typer.Option(help="Where it serves.")] = "http://127.0.0.1:8080",
    min_texts: Annotated[int, typer.Option(min=1, help="So many must have been compared.")] = 100,
    max_disagreement: Annotated[float, typer.Option(help="Share of other labels.")] = 0.02,
    max_score_difference: Annotated[float, typer.Option(help="Mean, of scores.")] = 0.05,
    min_cosine: Annotated[float, typer.Option(help="Mean, of vectors.")] = 0.98,
    max_slowdown: Annotated[float, typer.Option(help="Times the time of what serves.")] = 1.5,
) -> None:
    """Let a running server serve its shadow version, if what was compared reaches the bar.

    ENCSERVE_ADMIN_KEY, or ENCSERVE_ADMIN_KEY_FILE, is the server's.
    """
    import json
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    from service.access.keys import key_to_send

    bar = {
        "min_texts": min_texts,
        "max_disagreement": max_disagreement,
        "max_score_difference": max_score_difference,
        "min_cosine": min_cosine,
        "max_slowdown": max_slowdown,
    }
    if not server.startswith(("http://", "https://")):
        raise typer.BadParameter("--server is a URL, such as http://127.0.0.1:8080")
    settings = settings_of()
    admin_key = key_to_send(settings.admin_key.get_secret_value(), settings.admin_key_file)
    asked = urllib.request.Request(
        f"{server.rstrip('/')}/admin/models/{name}/promote",
        data=json.dumps(bar).encode(),
        headers={
            "Authorization": f"Bearer {admin_key}",
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(asked, timeout=120) as answer:
            serves = json.load(answer)["serves"]
    except urllib.error.HTTPError as error:
        with error:
            typer.echo(f"refused: {_message_of(error)}", err=True)
        raise typer.Exit(1) from None
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        # Nobody, or somebody else: not every server that answers is encserve.
        typer.echo(f"no encserve at {address_shown(server)}: {type(error).__name__}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{name}: version {serves} serves now")


def _message_of(error: "HTTPError") -> str:
    """What the server says of why it refuses, else the status."""
    import json
    from http.client import HTTPException

    try:
        return str(json.load(error)["error"]["message"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return f"status {error.code}, and it is no encserve that says so"
