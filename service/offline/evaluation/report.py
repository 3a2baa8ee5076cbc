"""One folder a version: metrics.json, pictures, MODEL_CARD.md, and all of it in report.html."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.offline.evaluation.evaluate import Evaluation
from service.offline.evaluation.page import Section, Table, page_of
from service.offline.evaluation.plots import plots_of
from service.store.manifest import ManifestFields

Facts = Mapping[str, Any]


def write_report(
    folder: Path, fields: ManifestFields, name: str, evaluation: Evaluation, training: Facts
) -> None:
    """Write the files of the report into `folder`, which is made.

    Args:
        training: how it was trained: settings, texts of each part, what was dropped, the looks at
            the dev split. Empty for a model that was not trained here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {"measured": evaluation.as_json(), "training": dict(training)}
    (folder / "metrics.json").write_text(_json(found), encoding="utf-8")
    pictures = plots_of(evaluation)
    for file, png in pictures.items():
        (folder / file).write_bytes(png)
    sections = list(_sections(fields, evaluation, training))
    (folder / "MODEL_CARD.md").write_text(_card(name, sections), encoding="utf-8")
    page = page_of(name, sections, pictures, evaluation.mistakes)
    (folder / "report.html").write_text(page, encoding="utf-8")


def _sections(fields: ManifestFields, evaluation: Evaluation, training: Facts) -> Iterator[Section]:
    """Title, a sentence, and a table if there is one: the same for the card and the page."""
    yield "What it is", _what_it_is(fields), None
    if fields.task == "classification":
        yield "How to ask it", "POST /v1/classify with the model's name and texts as `input`.", None
    else:
        yield (
            "How to ask it",
            "POST /v1/embeddings with the model's name and texts as `input`.",
            None,
        )
    yield "Where it comes from", "", _pairs_table(_origin(fields, training))
    yield "How good it is", _measured_on(evaluation), _pairs_table(_headline(evaluation.measures))
    if "labels" in evaluation.measures:
        yield (
            "By label",
            "95 % intervals in brackets.",
            _labels_table(evaluation.measures["labels"]),
        )
    if fields.calibration:
        yield "Calibration", *_calibration(fields)
    if evaluation.fairness:
        yield "Fairness", *_fairness(evaluation.fairness)
    yield "Its files", "On one core of the machine that made it.", _variants(evaluation)
    if training.get("settings"):
        yield "Training", "", _pairs_table(_flat(training["settings"]))
    if training.get("history"):
        yield "Looks at the dev split", "", _rows_table(training["history"])
    yield "Limits", _limits(fields), None


def _what_it_is(fields: ManifestFields) -> str:
    reads = "pairs of texts" if fields.pair_separator_id is not None else "texts"
    if fields.task == "embedding":
        sizes = ", ".join(map(str, fields.matryoshka_dimensions))
        cut = f" They may be cut to {sizes} numbers." if sizes else ""
        return f"It makes a vector of {fields.width} numbers of each text.{cut}"
    kinds = {
        "single_label": f"gives one of the labels {', '.join(fields.labels)}",
        "multi_label": f"gives any number of the labels {', '.join(fields.labels)}",
        "regression": "gives a number",
    }
    return (
        f"It reads {reads} of at most {fields.max_tokens} tokens and {kinds[fields.problem_type]}."
    )


def _origin(fields: ManifestFields, training: Facts) -> dict[str, Any]:
    origin = fields.provenance
    return {
        "base": origin.base,
        "sha256 of the base's weights": origin.base_sha256,
        "sha256 of the data": origin.data_sha256 or "not trained here",
        **{f"{part} texts": count for part, count in training.get("texts", {}).items()},
        **{f"rows dropped, {why}": count for why, count in training.get("dropped", {}).items()},
        "seed": "none" if origin.seed is None else origin.seed,
        "commit": origin.git_commit or "unknown",
        **origin.libraries,
    }


def _measured_on(evaluation: Evaluation) -> str:
    texts = evaluation.measures.get("texts", 0)
    return f"The file that is served ({evaluation.variant}), on {texts} held-out rows."


def _headline(measures: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.replace("_", " "): _with_interval(value, measures.get(f"{name}_interval"))
        for name, value in measures.items()
        if isinstance(value, float)
    }


def _labels_table(labels: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        [
            label,
            str(row["texts"]),
            *(
                _with_interval(row[key], row.get(f"{key}_interval"))
                for key in ("precision", "recall", "f1")
            ),
        ]
        for label, row in labels.items()
    ]
    return ("label", "texts", "precision", "recall", "F1"), rows


def _calibration(fields: ManifestFields) -> tuple[str, Table]:
    found = fields.calibration
    assert found is not None
    said = (
        f"Logits are divided by {found.temperature:.3f} inside the graph. On held-out texts the "
        f"expected calibration error was {found.ece_before:.3f} without and is "
        f"{found.ece_after:.3f} with it. At its threshold a label is right in at least "
        f"{found.wanted_precision:.0%} of the texts; below all thresholds one may abstain."
    )
    rows = [
        [label, *(f"{value:.3f}" for value in (at.score, at.precision, at.recall))]
        for label, at in found.thresholds.items()
    ]
    return said, (("label", "threshold", "precision", "recall"), rows)


def _fairness(found: Mapping[str, Any]) -> tuple[str, Table]:
    said = (
        f"{found['pairs']} pairs of texts that differ only in a person. Change of score "
        f"({found['score']}): {found['mean_change']:.4f} on average, {found['largest_change']:.3f} "
        "at most."
    )
    rows = [
        [
            group,
            str(row["pairs"]),
            *(f"{row[key]:.4f}" for key in ("mean_change", "mean_signed_change", "largest_change")),
        ]
        for group, row in found["groups"].items()
    ]
    return said, (("from, to", "pairs", "mean change", "mean with sign", "largest"), rows)


def _variants(evaluation: Evaluation) -> Table:
    names = list(evaluation.variants)
    keys = list(dict.fromkeys(key for row in evaluation.variants.values() for key in row))
    rows = [
        [
            key.replace("_", " "),
            *(_number(evaluation.variants[name].get(key, math.nan)) for name in names),
        ]
        for key in keys
    ]
    return ("", *names), rows


def _limits(fields: ManifestFields) -> str:
    languages = (
        "It knows the languages of its base and its data only, and the kinds of text in them."
    )
    if fields.task == "embedding":
        return languages
    return (
        f"{languages} Its scores were measured on texts like those it was trained on; on others "
        "they are less sure than they say. It is no judge of persons."
    )


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    return {key.replace("_", " "): str(value) for key, value in settings.items()}


def _pairs_table(values: Mapping[str, Any]) -> Table:
    return ("", ""), [[key, str(value)] for key, value in values.items()]


def _rows_table(rows: Sequence[Mapping[str, float]]) -> Table:
    names = list(rows[0])
    return names, [[_number(row[name]) for name in names] for row in rows]


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    if interval is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value or 0) else f"{value:.4f}"


def _card(name: str, sections: Sequence[Section]) -> str:
    parts = [f"# {name}"]
    for title, said, table in sections:
        parts += [f"## {title}", *([said] if said else []), *([_markdown(table)] if table else [])]
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _json(value: object) -> str:
    """JSON knows no NaN: what could not be computed is null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
