"""Commands that publish an encoder as it is: export."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.common import Base, Store, app, repository_of, workshop


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
    progress = workshop()
    from service.offline import bootstrap as making
    from service.offline.checkpoints import DEFAULT_BASE
    from service.offline.corpus import read_scored_pairs

    making.make_embedding(
        repository_of(model_store),
        name,
        progress,
        base=base or DEFAULT_BASE,
        pairs=read_scored_pairs(int8_data) if int8_data else None,
    )
