"""Commands that train: bootstrap, finetune, train-embedding."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from service.cli.common import Base, Store, app, examples, given, repository_of, workshop
from service.cli.exporting import export
from service.errors import InvalidField

Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the data.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Texts or pairs a step.")]
LearningRate = Annotated[float | None, typer.Option(min=0, help="Peak learning rate.")]
LayerDecay = Annotated[
    float | None,
    typer.Option(
        min=0, help="Rate of a block as a share of that of the one above it, such as 0.9."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of split, order and dropout.")]
SaveEvery = Annotated[
    float, typer.Option(min=0, help="Seconds between states that a killed run goes on from.")
]


@app.command(
    epilog=examples(
        "encserve bootstrap",
    ),
)
def bootstrap(model_store: Store = None) -> None:
    """Make the two default models, `embedding` and `sentiment`, where the store lacks them."""
    published = repository_of(model_store).names()
    if "embedding" not in published:
        export("embedding", model_store=model_store)
    if "sentiment" not in published:
        finetune("sentiment", model_store=model_store)


@app.command(
    epilog=examples(
        "encserve finetune topics --data mine.csv",
        "encserve finetune topics --data mine.tsv --text-column body --label-column topic",
        "encserve finetune tags --data tags.jsonl --problem-type multi_label",
        "encserve finetune answers --data pairs.csv --pair-column answer --lora-rank 8",
    ),
)
def finetune(
    name: Annotated[str, typer.Argument(help="Name to publish the classifier under.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled .csv, .tsv, .jsonl or .parquet, or a Hugging Face dataset id. "
            "(default: the project's sentiment corpus)"
        ),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the labels.")] = "label",
    pair_column: Annotated[
        str | None, typer.Option(help="Column of second texts: learn pairs (cross-encoder).")
    ] = None,
    problem_type: Annotated[
        str, typer.Option(help="single_label, multi_label or regression.")
    ] = "single_label",
    test_data: Annotated[
        str | None,
        typer.Option(help="Labelled texts to measure, and int8 to pass. (default: a tenth)"),
    ] = None,
    fairness: Annotated[
        Path | None,
        typer.Option(help="Pairs that differ in a person only: columns text_a and text_b."),
    ] = None,
    base: Base = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    layer_decay: LayerDecay = None,
    dropout: Annotated[float | None, typer.Option(min=0, max=0.9, help="Before the head.")] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(min=0, max=1, help="Such as 0.1.")
    ] = None,
    class_weights: Annotated[
        bool | None, typer.Option(help="Let rare labels count as much as frequent ones.")
    ] = None,
    freeze_embeddings: Annotated[
        bool | None, typer.Option(help="Keep the base's token vectors. (default: yes)")
    ] = None,
    frozen_blocks: Annotated[
        int | None, typer.Option(min=0, help="Keep the lowest blocks.")
    ] = None,
    adversarial: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="In the second half learn each text also moved against the model, by this share "
            "of its length; 0 for not. (default: 0.03 for single_label, else 0)",
        ),
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option(min=0, help="Above 0: learn a correction of this rank, LoRA.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=0, help="Looks at the dev split without gain; one more ends it."),
    ] = None,
    evaluations_per_epoch: Annotated[
        int | None, typer.Option(min=1, help="Looks an epoch.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=4, help="Cut longer texts in training.")
    ] = None,
    dev_fraction: Annotated[
        float, typer.Option(min=0.01, max=0.5, help="Share that decides when to stop.")
    ] = 0.1,
    test_fraction: Annotated[
        float, typer.Option(min=0.01, max=0.5, help="Share that is measured at the end.")
    ] = 0.1,
    wanted_precision: Annotated[
        float, typer.Option(min=0.01, max=1, help="What the labels' thresholds are to reach.")
    ] = 0.9,
    seed: Seed = None,
    save_every_s: SaveEvery = 60.0,
    model_store: Store = None,
) -> None:
    """Fine-tune an encoder on labelled texts, calibrate, export, prove equal, measure, publish.

    A killed run goes on where it was when it is started again with the same options. Several
    processes share the work: `accelerate launch --module service.cli finetune ...`.
    """
    progress = workshop()
    from service.offline import making
    from service.offline.checkpoints import DEFAULT_BASE
    from service.offline.evaluation.fairness import read_fairness_pairs
    from service.offline.finetune import defaults_for
    from service.offline.reading import Columns, read_examples, read_problem_type

    config = replace(
        defaults_for(read_problem_type(problem_type)),
        **given(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            layer_decay=layer_decay,
            dropout=dropout,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            freeze_embeddings=freeze_embeddings,
            frozen_blocks=frozen_blocks,
            adversarial=adversarial,
            lora_rank=lora_rank,
            patience=patience,
            evaluations_per_epoch=evaluations_per_epoch,
            max_tokens=max_tokens,
            seed=seed,
        ),
    )
    columns = Columns(text=text_column, label=label_column, pair=pair_column)
    test = read_examples(test_data, columns, config.problem_type) if test_data else None
    making.make_classifier(
        repository_of(model_store),
        name,
        progress,
        examples=read_examples(data, columns, config.problem_type) if data else None,
        base=base or DEFAULT_BASE,
        config=config,
        holding=making.Holding(
            dev_fraction=dev_fraction,
            test_fraction=test_fraction,
            wanted_precision=wanted_precision,
            test=test,
            fairness=read_fairness_pairs(fairness) if fairness else (),
        ),
        save_every_s=save_every_s,
    )


@app.command(
    "train-embedding",
    epilog=examples(
        "encserve train-embedding mine --data scored_pairs.tsv",
        "encserve train-embedding mine --data pairs.csv --objective contrastive --matryoshka 64",
    ),
)
def train_embedding(
    name: Annotated[str, typer.Argument(help="Name to publish the embedding model under.")],
    data: Annotated[
        str, typer.Option(help="Pairs: columns sentence1, sentence2 and, if scored, score.")
    ],
    dev_data: Annotated[
        str | None, typer.Option(help="Pairs that choose and judge. (default: a tenth)")
    ] = None,
    objective: Annotated[
        str,
        typer.Option(help="cosine or ranking for scored pairs, contrastive for pairs that belong."),
    ] = "ranking",
    matryoshka: Annotated[
        str, typer.Option(help="Sizes that vectors may be cut to, such as 64,128,256.")
    ] = "",
    base: Base = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    layer_decay: LayerDecay = None,
    seed: Seed = None,
    save_every_s: SaveEvery = 60.0,
    model_store: Store = None,
) -> None:
    """Train an encoder's vectors on pairs of texts, export, prove equal, measure, publish."""
    progress = workshop()
    from service.offline import making
    from service.offline.checkpoints import DEFAULT_BASE
    from service.offline.embedding_training import EmbeddingConfig
    from service.offline.pairs import read_pairs_to_learn
    from service.offline.training.pair_losses import read_objective

    config = replace(
        EmbeddingConfig(
            objective=read_objective(objective),
            matryoshka_dimensions=_sizes(matryoshka),
        ),
        **given(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            layer_decay=layer_decay,
            seed=seed,
        ),
    )
    train, dev = read_pairs_to_learn(data, dev_data, config, progress)
    making.make_trained_embedding(
        repository_of(model_store),
        name,
        progress,
        train=train,
        dev=dev,
        base=base or DEFAULT_BASE,
        config=config,
        save_every_s=save_every_s,
    )


def _sizes(written: str) -> tuple[int, ...]:
    """Whether vectors have such sizes is known once there is an encoder."""
    try:
        return tuple(int(size) for size in written.split(",") if size.strip())
    except ValueError as error:
        raise InvalidField(
            "matryoshka is whole numbers with commas between them, such as 64,128,256",
            param="matryoshka",
        ) from error
