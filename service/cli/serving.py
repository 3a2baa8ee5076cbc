"""`encserve serve` and what belongs to it: settings, openapi, tune."""

import os
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.common import Store, app, settings_of
from service.settings import ENV_PREFIX, Settings
from service.store.repository import ModelRepository


@app.command()
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
    )
    # One request is tokenized by one thread: the library's own pool would contend with the model
    # runs, and a variable is its only switch.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if settings.sources:
        from service.cli.store import fetch_sources

        fetch_sources(settings)
    from service.api.server import run_server

    run_server(settings)


@app.command("openapi")
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


@app.command("settings")
def show_settings() -> None:
    """List every setting of the server: variable, value now, meaning."""
    settings = settings_of()
    table = Table("variable", "value", "meaning")
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        table.add_row(ENV_PREFIX + name.upper(), str(value), field.description)
    Console().print(table)


@app.command()
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
