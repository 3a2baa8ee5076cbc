"""What a report says, in words and tables: the same for the card and the page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.offline.evaluation.calibration import BINS
from service.offline.evaluation.evaluate import Evaluation
from service.offline.evaluation.intervals import RESAMPLES
from service.store.manifest import Calibration, ManifestFields

Facts = Mapping[str, Any]
# Names of the columns, all empty for a table of facts; and the rows.
Table = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Section:
    """said: a paragraph, or nothing. code: what to type. shows: the pictures follow it."""

    title: str
    said: str = ""
    table: Table | None = None
    code: str = ""
    shows: bool = False


def sections_of(
    fields: ManifestFields, name: str, evaluation: Evaluation, training: Facts
) -> Iterator[Section]:
    """All that is known of a model, in the order of reading."""
    yield Section("What it is", _what_it_is(fields))
    yield _how_to_ask(fields, name)
    yield Section("Where it comes from", table=_pairs_table(_origin(fields, training)))
    yield Section(
        "How good it is",
        _measured_on(fields, evaluation, bool(training)),
        _pairs_table(_headline(evaluation.measures)),
        shows=True,
    )
    if labels := evaluation.measures.get("labels"):
        yield Section("By label", "95 % intervals in brackets.", _labels_table(labels))
    if fields.calibration:
        yield Section("Calibration", *_calibration(fields.calibration))
    if evaluation.fairness:
        yield Section("Fairness", *_fairness(evaluation.fairness))
    yield Section(
        "Its files",
        "Right answers on the same rows, how far scores are from those of the served file, and "
        "speed on one core of the machine that measured it, without tokenizing.",
        _variants(evaluation),
    )
    if training.get("settings"):
        yield Section("Training", table=_pairs_table(_flat(training["settings"])))
    if training.get("history"):
        yield Section("Looks at the dev split", table=_rows_table(training["history"]))
    yield Section("Limits", _limits(fields))


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


def _how_to_ask(fields: ManifestFields, name: str) -> Section:
    if fields.pair_separator_id is not None:
        measure = f"encserve evaluate {name} --data FILE --pair-column COLUMN"
        return Section("How to ask it", "It reads two texts together.", code=measure)
    route = "embeddings" if fields.task == "embedding" else "classify"
    return Section(
        "How to ask it",
        "While `encserve serve` runs with it, at the address that it prints:",
        code=f"curl localhost:8080/v1/{route} -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": "{name}", "input": ["a text", "another"]}}\'',
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


def _measured_on(fields: ManifestFields, evaluation: Evaluation, is_maker: bool) -> str:
    """Only the maker of a model knows that the rows were held out, and what else they were for."""
    belong = "recall_at_1" in evaluation.measures
    pairs = "pairs that belong together" if belong else "scored pairs"
    rows = pairs if fields.task == "embedding" else "rows"
    which = "that no step of training learned from" if is_maker else "named for this measurement"
    said = [
        f"The variant {evaluation.variant}, on {evaluation.measures['texts']} {rows} {which}.",
        f"In brackets 95 % intervals: Wilson's of shares, else of {RESAMPLES:,} bootstrap draws.",
    ]
    if is_maker and fields.task == "embedding":
        said.append("The same pairs chose which weights were kept: on others it may do worse.")
    if belong:
        said.append(
            "Recall at 1 is the share of first texts to which their own second text is nearer than "
            "every wrong one of these pairs, the mean reciprocal rank 1 where it is and 1/2 where "
            "one wrong text is nearer: with more pairs both are lower."
        )
    if "calibration_error" in evaluation.measures:
        said.append(
            f"The calibration error is over {BINS} bins of equal width (arXiv:1706.04599); by "
            "chance is what scores that are exactly honest would show on so many rows."
        )
        if is_maker and fields.calibration:
            said.append("These rows took part in fitting the temperature; see Calibration.")
    return " ".join(said)


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


def _calibration(found: Calibration) -> tuple[str, Table]:
    said = (
        f"Logits are divided by {found.temperature:.3f} inside the graph. On held-out texts the "
        f"expected calibration error was {found.ece_before:.3f} without and is "
        f"{found.ece_after:.3f} with it, each half measured by the temperature of the other. From "
        f"its threshold on, a label was right in at least {found.wanted_precision:.0%} of them; "
        "a label that is missing here reached that nowhere. Crosswise is the precision on one half "
        "of a threshold chosen on the other: expect that of new texts. Below all thresholds one "
        "may abstain."
    )
    rows = [
        [
            label,
            *(f"{value:.3f}" for value in (at.score, at.precision, at.recall)),
            "none" if at.crosswise_precision is None else f"{at.crosswise_precision:.3f}",
        ]
        for label, at in found.thresholds.items()
    ]
    return said, (("label", "threshold", "precision", "recall", "crosswise"), rows)


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
        f"{languages} What is said here holds for texts like those it was measured on; on others "
        "its scores claim more than it knows. It is no judge of persons."
    )


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    return {key.replace("_", " "): str(value) for key, value in settings.items()}


def _pairs_table(values: Mapping[str, Any]) -> Table:
    return ("", ""), [[key, str(value)] for key, value in values.items()]


def _rows_table(rows: Sequence[Mapping[str, float]]) -> Table:
    names = list(rows[0])
    return names, [[_number(row[name]) for name in names] for row in rows]


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    if not math.isfinite(value):
        return "none: one side is constant"
    if interval is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _number(value: float) -> str:
    """About four digits, however large."""
    if not math.isfinite(value):
        return "none"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"
