"""Commands that measure published models: evaluate and compare."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from service.cli.common import Store, app, repository_of, workshop
from service.errors import WrongTask
from service.store.repository import PublishedModel, verify

if TYPE_CHECKING:
    from service.offline.evaluation.compare import Comparison
    from service.offline.evaluation.evaluate import Evaluation
    from service.offline.predict import Predictor

Data = Annotated[
    str,
    typer.Option(
        help="Labelled texts; for an embedding model scored pairs: sentence1, sentence2, score."
    ),
]
TextColumn = Annotated[str, typer.Option(help="Column of the texts.")]
LabelColumn = Annotated[str, typer.Option(help="Column of the labels.")]
PairColumn = Annotated[str | None, typer.Option(help="Column of second texts.")]


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")],
    data: Data,
    variant: Annotated[
        str | None, typer.Option(help="(default: all; the served one leads)")
    ] = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    pair_column: PairColumn = None,
    fairness: Annotated[
        Path | None,
        typer.Option(help="Pairs that differ in a person only: columns text_a and text_b."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Folder to write a report into.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    model_store: Store = None,
) -> None:
    """Measure a published model on labelled data, through the runtime that serves."""
    workshop()
    from service.offline.evaluation.evaluate import evaluate as evaluate_classifier
    from service.offline.evaluation.evaluate import evaluate_embedding
    from service.offline.evaluation.fairness import read_fairness_pairs
    from service.offline.evaluation.report import write_report
    from service.offline.reading import Columns, read_examples, read_scored_pairs

    model = _model(name, model_store)
    manifest = model.manifest
    predictors = {
        key: _predictor(model, key) for key in ([variant] if variant else manifest.variants)
    }
    if manifest.task == "embedding":
        found = evaluate_embedding(predictors, manifest, read_scored_pairs(data))
    else:
        columns = Columns(text_column, label_column, pair_column)
        examples = read_examples(data, columns, manifest.problem_type)
        pairs = read_fairness_pairs(fairness) if fairness else []
        found = evaluate_classifier(predictors, manifest, examples, fairness=pairs)
    if report:
        write_report(report, manifest, manifest.name, found, {})
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        _show(found)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")],
    second: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")],
    data: Data,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    pair_column: PairColumn = None,
    model_store: Store = None,
) -> None:
    """Say whether the difference of two published models is more than chance."""
    workshop()
    from service.offline.evaluation.compare import compare_classifiers, compare_embeddings
    from service.offline.reading import Columns, read_examples, read_scored_pairs

    models = [_model(name, model_store) for name in (first, second)]
    a, b = (_predictor(model, model.manifest.default_variant) for model in models)
    kinds = {(model.manifest.task, model.manifest.problem_type) for model in models}
    if len(kinds) > 1:
        raise WrongTask("the two models answer different questions and cannot be compared")
    if models[0].manifest.task == "embedding":
        found = compare_embeddings(a, b, read_scored_pairs(data))
    else:
        columns = Columns(text_column, label_column, pair_column)
        found = compare_classifiers(
            a, b, read_examples(data, columns, models[0].manifest.problem_type)
        )
    _show_comparison(first, second, found)


def _model(name: str, model_store: Path | None) -> PublishedModel:
    plain, _, version = name.partition("@")
    model = repository_of(model_store).resolve(plain, version or None)
    verify(model)
    return model


def _predictor(model: PublishedModel, variant: str) -> "Predictor":
    from service.offline.predict import Predictor

    if variant not in model.manifest.variants:
        raise typer.BadParameter(f"variants are {', '.join(model.manifest.variants)}")
    return Predictor(model.path, model.manifest, variant)


def _show(found: "Evaluation") -> None:
    table = Table("measure", "value", "95 % interval")
    for name, value in found.measures.items():
        if isinstance(value, float | int):
            table.add_row(name, _number(value), _interval(found.measures.get(f"{name}_interval")))
    console = Console()
    console.print(table)
    if labels := found.measures.get("labels"):
        by_label = Table("label", "texts", "precision", "recall", "f1")
        for label, row in labels.items():
            values = [_number(row[key]) for key in ("precision", "recall", "f1")]
            by_label.add_row(label, str(row["texts"]), *values)
        console.print(by_label)
    files = Table("file", *next(iter(found.variants.values())))
    for name, numbers in found.variants.items():
        files.add_row(name, *map(_number, numbers.values()))
    console.print(files)
    if found.fairness:
        changes = {k: v for k, v in found.fairness.items() if isinstance(v, float | int)}
        fair = Table("fairness", *changes)
        fair.add_row(str(found.fairness["score"]), *map(_number, changes.values()))
        console.print(fair)


def _show_comparison(first: str, second: str, found: "list[Comparison]") -> None:
    table = Table("measure", first, second, "difference, 95 %", "p", "verdict")
    for one in found:
        low, high = one.interval
        verdict = one.verdict.replace("the first", first).replace("the second", second)
        table.add_row(
            one.measure,
            _number(one.first),
            _number(one.second),
            f"{one.second - one.first:+.4f} [{low:+.4f}, {high:+.4f}]",
            f"{one.p_value:.4f}",
            verdict,
        )
    Console().print(table)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"


def _interval(interval: Any) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
