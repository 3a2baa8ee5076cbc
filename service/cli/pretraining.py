"""`encserve pretrain`: an encoder from nothing but raw texts."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from service.cli.common import app, examples, given, workshop
from service.cli.training import LearningRate, SaveEvery, Seed
from service.errors import InvalidField


@app.command(
    epilog=examples(
        "encserve pretrain mine --data texts.txt",
        "encserve pretrain mine --data a.tsv --data b.tsv --layers 6 --objective autoencoder",
    ),
)
def pretrain(
    name: Annotated[str, typer.Argument(help="Name of the new encoder.")],
    data: Annotated[
        list[str],
        typer.Option(
            help="Texts: .txt (a text a line), .csv, .tsv, .jsonl or .parquet; repeatable."
        ),
    ],
    text_column: Annotated[
        str, typer.Option(help="Columns of the texts, comma-separated; a file needs one of them.")
    ] = "text",
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Texts of these files are left out, such as those to be measured on."),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder that the encoder's folder is written to.")
    ] = Path("checkpoints"),
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer.json to use instead of learning one.")
    ] = None,
    objective: Annotated[str, typer.Option(help="mlm or autoencoder.")] = "mlm",
    pooling: Annotated[str, typer.Option(help="mean or cls.")] = "mean",
    vocabulary_size: Annotated[int, typer.Option(min=100, help="Pieces of words.")] = 8000,
    hidden_size: Annotated[int, typer.Option(min=1, help="Size of the vectors.")] = 256,
    layers: Annotated[int, typer.Option(min=1, help="Blocks.")] = 4,
    heads: Annotated[int, typer.Option(min=1, help="Of attention.")] = 4,
    feed_forward_size: Annotated[
        int, typer.Option(min=0, help="(default: four times hidden-size)")
    ] = 0,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longest text that it reads.")] = 128,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Passes over the texts; 0 keeps random weights.")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens a step.")] = None,
    learning_rate: LearningRate = None,
    masked: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of tokens that are hidden.")
    ] = None,
    decoder_masked: Annotated[
        float | None, typer.Option(min=0, max=1, help="The same of the decoder.")
    ] = None,
    seed: Seed = None,
    save_every_s: SaveEvery = 60.0,
) -> None:
    """Build an encoder from nothing: learn a tokenizer and random weights from raw texts.

    The result is a folder in BERT's form, for `--base` of finetune and `--from` of export.
    """
    if hidden_size % heads:
        raise InvalidField(
            f"hidden-size {hidden_size} is no multiple of heads {heads}: each head reads an equal "
            "share of the vector",
            param="heads",
        )
    progress = workshop()
    from service.offline.encoder import EncoderConfig
    from service.offline.pretrain import PretrainConfig, read_choices
    from service.offline.scratch import make_encoder

    chosen_objective, chosen_pooling = read_choices(objective, pooling)
    config = replace(
        PretrainConfig(chosen_objective, chosen_pooling),
        **given(
            epochs=epochs,
            batch_tokens=batch_tokens,
            learning_rate=learning_rate,
            masked=masked,
            decoder_masked=decoder_masked,
            seed=seed,
        ),
    )
    size = EncoderConfig(
        vocabulary_size=vocabulary_size,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        feed_forward_size=feed_forward_size or 4 * hidden_size,
        max_positions=max_tokens,
    )
    make_encoder(
        output,
        name,
        progress,
        sources=data,
        columns=text_column.split(","),
        exclude=exclude or [],
        size=size,
        config=config,
        tokenizer_file=tokenizer,
        save_every_s=save_every_s,
    )
