"""Commands that measure published models: evaluate and compare."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.common import Store, app, examples, repository_of, workshop
from service.errors import WrongTask
from service.runtime.outputs import ProblemType
from service.store.repository import PublishedModel, name_and_version
from service.store.verification import verify

if TYPE_CHECKING:
    from service.offline.data import Example
    from service.offline.evaluation.compare import Comparison
    from service.offline.evaluation.evaluate import Evaluation
    from service.offline.predict import Predictor
    from service.offline.progress import Progress
    from service.offline.reading import Columns

Data = Annotated[
    str,
    typer.Option(
        help="Labelled texts; for an embedding model scored pairs: sentence1, sentence2, score."
    ),
]
TextColumn = Annotated[str, typer.Option(help="Column of the texts.")]
LabelColumn = Annotated[str, typer.Option(help="Column of the labels.")]
PairColumn = Annotated[str | None, typer.Option(help="Column of second texts.")]


@app.command(
    epilog=examples(
        "encserve evaluate sentiment --data reviews.csv",
        "encserve evaluate sentiment@1 --data reviews.csv --report report --variant int8",
        "encserve evaluate embedding --data pairs.tsv --json",
    ),
)
def evaluate(
    name: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")],
    data: Data,
    version: Annotated[
        str | None, typer.Option(help="The same as NAME@VERSION. (default: the current one)")
    ] = None,
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
    progress = workshop()
    from service.offline.evaluation.evaluate import evaluate as evaluate_classifier
    from service.offline.evaluation.evaluate import evaluate_embedding
    from service.offline.evaluation.fairness import read_fairness_pairs
    from service.offline.evaluation.report import write_report
    from service.offline.reading import Columns, read_scored_pairs

    model = _model(f"{name}@{version}" if version else name, model_store)
    manifest = model.manifest
    if fairness and manifest.task == "embedding":
        raise typer.BadParameter("an embedding model has no scores to be fair with: no --fairness")
    predictors = {
        key: _predictor(model, key) for key in ([variant] if variant else manifest.variants)
    }
    if manifest.task == "embedding":
        found = evaluate_embedding(predictors, manifest, read_scored_pairs(data))
    else:
        columns = Columns(text_column, label_column, pair_column)
        examples = _examples(data, columns, manifest.problem_type, progress)
        pairs = read_fairness_pairs(fairness) if fairness else []
        found = evaluate_classifier(predictors, manifest, examples, fairness=pairs)
    if report:
        write_report(report, manifest, manifest.name, found, {})
    if as_json:
        head = {"model": manifest.name, "version": manifest.version, "data": data}
        print(json.dumps(head | found.as_json(), indent=2))
    else:
        _show(found)


@app.command(
    epilog=examples(
        "encserve compare sentiment@1 sentiment@2 --data reviews.csv",
    ),
)
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
    progress = workshop()
    from service.offline.evaluation.compare import compare_classifiers, compare_embeddings
    from service.offline.reading import Columns, read_scored_pairs

    models = [_model(name, model_store) for name in (first, second)]
    a, b = (_predictor(model, model.manifest.default_variant) for model in models)
    kinds = {(model.manifest.task, model.manifest.problem_type) for model in models}
    if len(kinds) > 1:
        raise WrongTask("the two models answer different questions and cannot be compared")
    if models[0].manifest.task == "embedding":
        found = compare_embeddings(a, b, read_scored_pairs(data))
    else:
        columns = Columns(text_column, label_column, pair_column)
        problem_type = models[0].manifest.problem_type
        found = compare_classifiers(a, b, _examples(data, columns, problem_type, progress))
    _show_comparison(first, second, found)


def _model(name: str, model_store: Path | None) -> PublishedModel:
    model = repository_of(model_store).resolve(*name_and_version(name))
    verify(model)
    return model


def _predictor(model: PublishedModel, variant: str) -> "Predictor":
    from service.offline.predict import Predictor

    if variant not in model.manifest.variants:
        raise typer.BadParameter(f"variants are {', '.join(model.manifest.variants)}")
    return Predictor(model.path, model.manifest, variant)


def _examples(
    data: str, columns: "Columns", problem_type: ProblemType, progress: "Progress"
) -> "list[Example]":
    """The rows that can be measured; how many cannot be is told, and why."""
    from service.offline.cleaning import usable
    from service.offline.reading import read_examples

    found = usable(read_examples(data, columns, problem_type))
    for line in found.describe():
        progress.say(f"{data}: {line}")
    return found.examples


def _show(found: "Evaluation") -> None:
    console = Console()
    console.print(_measures(found.measures))
    if labels := found.measures.get("labels"):
        console.print(_labels(labels))
    console.print(_variants(found.variants))
    if found.fairness:
        console.print(_fairness(found.fairness))


def _measures(measures: Mapping[str, Any]) -> Table:
    table = Table("measure", "value", "95 % interval")
    for name, value in measures.items():
        if isinstance(value, float | int):
            table.add_row(name, _number(value), _interval(measures.get(f"{name}_interval")))
    return table


def _labels(labels: Mapping[str, Mapping[str, Any]]) -> Table:
    kinds = ("precision", "recall", "f1")
    table = Table("label", "texts", *kinds)
    for label, row in labels.items():
        values = [_in_brackets(row[kind], row[f"{kind}_interval"]) for kind in kinds]
        table.add_row(escape(label), str(row["texts"]), *values)
    return table


def _variants(variants: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table("file, speed on one core", *variants)
    for measure in next(iter(variants.values())):
        table.add_row(measure, *(_number(row[measure]) for row in variants.values()))
    return table


def _fairness(found: Mapping[str, Any]) -> Table:
    table = Table(f"change of {found['score']}", "pairs", "mean", "with sign", "largest")
    for group, row in {"all": found, **found["groups"]}.items():
        changes = (row[key] for key in ("mean_change", "mean_signed_change", "largest_change"))
        table.add_row(escape(group), str(row["pairs"]), *map(_number, changes))
    return table


def _show_comparison(first: str, second: str, found: "list[Comparison]") -> None:
    console = Console()
    table = Table("measure", first, second, "difference", "95 % interval", "p")
    for one in found:
        low, high = one.interval
        values = (f"{value:.4f}" for value in (one.first, one.second))
        difference = f"{one.second - one.first:+.4f}"
        table.add_row(
            one.measure, *values, difference, f"{low:+.4f} to {high:+.4f}", f"{one.p_value:.4f}"
        )
    console.print(table)
    for one in found:
        console.print(f"{one.measure}: {one.verdict(first, second)}", markup=False)


def _number(value: float) -> str:
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4f}"


def _in_brackets(value: float, interval: Sequence[float]) -> str:
    return escape(f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]")


def _interval(interval: Any) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
