"""Commands that publish a model as it is: export, import."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.common import Store, app, examples, repository_of, workshop

Pairs = Annotated[
    bool | None,
    typer.Option(
        "--pairs/--no-pairs",
        help="A classifier judges two texts together. (default: if it gives a single score, or is "
        "a cross-encoder of sentence-transformers)",
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(min=2, help="Cut longer texts. (default: as the authors do)")
]


@app.command(
    epilog=examples(
        "encserve export embedding",
        "encserve export reranker --from cross-encoder/ms-marco-MiniLM-L-6-v2 --pairs",
        "encserve export mine --from ./checkpoint --max-tokens 256",
    ),
)
def export(
    name: Annotated[str, typer.Argument(help="Name to publish the model under.")],
    base: Annotated[
        str | None,
        typer.Option(
            "--from",
            "--base",
            help="Encoder or classifier: a folder or a Hugging Face id. (default all-MiniLM-L6-v2)",
        ),
    ] = None,
    pairs: Pairs = None,
    max_tokens: MaxTokens = None,
    int8_data: Annotated[
        Path | None,
        typer.Option(help="Scored pairs that int8 must pass. (default: the project's sentences)"),
    ] = None,
    model_store: Store = None,
) -> None:
    """Export an encoder or classifier to ONNX, prove it equal to PyTorch, publish it.

    Pooling, prompts, labels and their kind are read from its own files.
    """
    progress = workshop()
    from service.offline.any_model import export_model
    from service.offline.model_folder import DEFAULT_BASE
    from service.offline.reading import read_scored_pairs

    export_model(
        repository_of(model_store),
        name,
        progress,
        base=base or DEFAULT_BASE,
        pairs=pairs,
        max_tokens=max_tokens,
        scored_pairs=read_scored_pairs(int8_data) if int8_data else None,
    )


@app.command(
    "import",
    epilog=examples(
        "encserve import topics ./folder-with-model.onnx",
        "encserve import topics ./folder --file onnx/model_quantized.onnx",
    ),
)
def import_model(
    name: Annotated[str, typer.Argument(help="Name to publish the model under.")],
    folder: Annotated[
        Path, typer.Argument(help="Holds an ONNX file, tokenizer.json and config.json.")
    ],
    file: Annotated[
        str | None,
        typer.Option(help="The ONNX file in the folder. (default: model.onnx or onnx/model.onnx)"),
    ] = None,
    pairs: Pairs = None,
    max_tokens: MaxTokens = None,
    model_store: Store = None,
) -> None:
    """Publish a ready-made ONNX folder, as the hub has them, once it was tried out.

    Pooling and scaling are added to the graph if it ends in token vectors.
    """
    progress = workshop()
    from service.offline.importing import import_folder

    import_folder(
        repository_of(model_store),
        name,
        folder,
        progress,
        file=file,
        pairs=pairs,
        max_tokens=max_tokens,
    )
