"""The command line: `encserve serve`, and the workshop, which loads torch only when it is used."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from service.errors import EncserveError, WorkshopError
from service.settings import ENV_PREFIX, Settings, load_settings
from service.store.repository import ModelRepository

if TYPE_CHECKING:
    from service.offline.corpus import Example
    from service.offline.progress import Progress

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Store = Annotated[
    Path | None,
    typer.Option(help="Folder of the models. (env ENCSERVE_MODEL_STORE, default model_store)"),
]
Base = Annotated[
    str | None,
    typer.Option(help="Base encoder: a folder or a Hugging Face id. (default all-MiniLM-L6-v2)"),
]


def main() -> None:
    """Run the command line; what we raise on purpose becomes one line and exit status 1."""
    try:
        app()
    except EncserveError as error:
        Console(stderr=True).print(f"[red]error[/red] ({error.code}): ", end="")
        Console(stderr=True, highlight=False, markup=False).print(error.message)
        raise SystemExit(1) from None


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address. (env ENCSERVE_HOST)")] = None,
    port: Annotated[int | None, typer.Option(help="0: a free one. (env ENCSERVE_PORT)")] = None,
    model_store: Store = None,
    models: Annotated[
        str | None, typer.Option(help="Names, comma-separated. (env ENCSERVE_MODELS)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Runs side by side. (env ENCSERVE_WORKERS)")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="(env ENCSERVE_LOG_LEVEL)")] = None,
) -> None:
    """Serve the published models over HTTP. `encserve settings` lists every setting."""
    settings = _settings(
        host=host,
        port=port,
        model_store=model_store,
        models=models,
        workers=workers,
        log_level=log_level,
    )
    # One request is tokenized by one thread: the library's own pool would contend with the model
    # runs, and a variable is its only switch.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from service.api.server import run_server

    run_server(settings)


@app.command("settings")
def show_settings() -> None:
    """List every setting of the server: variable, value now, meaning."""
    settings = _settings()
    table = Table("variable", "value", "meaning")
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        table.add_row(ENV_PREFIX + name.upper(), str(value), field.description)
    Console().print(table)


@app.command("models")
def list_models(model_store: Store = None) -> None:
    """List the published models with their versions; the current one is served."""
    repository = _repository(model_store)
    table = Table("model", "current", "versions", "task", "base")
    for name in repository.names():
        manifest = repository.resolve(name).manifest
        versions = " ".join(repository.versions(name))
        table.add_row(name, manifest.version, versions, manifest.task, manifest.provenance.base)
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

    settings = _settings(model_store=model_store, variant=variant)
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


@app.command()
def bootstrap(model_store: Store = None) -> None:
    """Make the two default models, `embedding` and `sentiment`, where the store lacks them."""
    published = _repository(model_store).names()
    if "embedding" not in published:
        export("embedding", model_store=model_store)
    if "sentiment" not in published:
        finetune("sentiment", model_store=model_store)


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="Name to publish the embedding model under.")],
    base: Base = None,
    int8_data: Annotated[
        Path | None,
        typer.Option(help="Scored pairs that int8 must pass. (default: the project's sentences)"),
    ] = None,
    model_store: Store = None,
) -> None:
    """Export an encoder to ONNX as an embedding model, prove it equal to PyTorch, publish it."""
    progress = _workshop()
    from service.offline import bootstrap as workshop
    from service.offline.checkpoints import DEFAULT_BASE
    from service.offline.corpus import read_scored_pairs

    workshop.make_embedding(
        _repository(model_store),
        name,
        progress,
        base=base or DEFAULT_BASE,
        pairs=read_scored_pairs(int8_data) if int8_data else None,
    )


@app.command()
def finetune(
    name: Annotated[str, typer.Argument(help="Name to publish the classifier under.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled .tsv or .csv. (default: the project's sentiment corpus)"),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the labels.")] = "label",
    base: Base = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of split, order and dropout.")] = None,
    int8_data: Annotated[
        Path | None,
        typer.Option(help="Labelled texts that int8 must pass. (default: the held-out ones)"),
    ] = None,
    model_store: Store = None,
) -> None:
    """Fine-tune an encoder on labelled texts, export it to ONNX, prove it equal, publish it."""
    progress = _workshop()
    from service.offline import bootstrap as workshop
    from service.offline.checkpoints import DEFAULT_BASE
    from service.offline.corpus import read_examples
    from service.offline.finetune import FinetuneConfig

    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    chosen: dict[str, Any] = {key: value for key, value in options.items() if value is not None}

    def read(path: Path | None) -> "list[Example] | None":
        if path is None:
            return None
        return read_examples(path, text_column=text_column, label_column=label_column)

    workshop.make_classifier(
        _repository(model_store),
        name,
        progress,
        examples=read(data),
        base=base or DEFAULT_BASE,
        config=replace(FinetuneConfig(), **chosen),
        test_examples=read(int8_data),
    )


def _settings(**overrides: Any) -> Settings:
    try:
        return load_settings(**overrides)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _repository(model_store: Path | None) -> ModelRepository:
    return ModelRepository(_settings(model_store=model_store).model_store)


def _workshop() -> "Progress":
    if importlib.util.find_spec("torch") is None:
        raise WorkshopError(
            "making models needs the extra 'offline' (torch is not installed): "
            "pip install 'encserve[offline]'"
        )
    from service.offline.progress import Progress

    return Progress()


if __name__ == "__main__":
    main()
