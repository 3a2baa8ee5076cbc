"""Commands that make models: bootstrap and finetune."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.common import Base, Store, app, repository_of, workshop
from service.cli.exporting import export

if TYPE_CHECKING:
    from service.offline.corpus import Example


@app.command()
def bootstrap(model_store: Store = None) -> None:
    """Make the two default models, `embedding` and `sentiment`, where the store lacks them."""
    published = repository_of(model_store).names()
    if "embedding" not in published:
        export("embedding", model_store=model_store)
    if "sentiment" not in published:
        finetune("sentiment", model_store=model_store)


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
    progress = workshop()
    from service.offline import bootstrap as making
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

    making.make_classifier(
        repository_of(model_store),
        name,
        progress,
        examples=read(data),
        base=base or DEFAULT_BASE,
        config=replace(FinetuneConfig(), **chosen),
        test_examples=read(int8_data),
    )
