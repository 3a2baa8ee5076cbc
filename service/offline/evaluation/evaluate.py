"""A model, published or about to be, on data whose truth is known, through the runtime."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import DatasetInvalid
from service.offline.data import Example, Input, ScoredPair
from service.offline.evaluation import measures
from service.offline.evaluation.calibration import calibration_error, confidences, reliability
from service.offline.evaluation.fairness import FairnessPair, measure_fairness
from service.offline.evaluation.targets import targets_of
from service.offline.predict import Predictor
from service.runtime.outputs import truncate_dimensions
from service.runtime.speed import tokens_per_s
from service.store.manifest import ManifestFields

FloatArray = npt.NDArray[np.float32]

WORST = 20
SPEED_S = 0.5
SPEED_BATCH_TOKENS = 128
LATENCY_TEXTS = 30
BINARY = {"0": "negative", "1": "positive"}


@dataclass(frozen=True)
class Answers:
    """What the plots show, a row a text.

    right: 1.0 where the answer is. confidence: how sure it was. truth, given: the numbers of
    regression and of scored pairs.
    """

    confidence: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    truth: list[float] = field(default_factory=list)
    given: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Mistake:
    """A text of which the model is sure and wrong."""

    text: str
    truth: str
    given: str
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """measures: of the variant that is served. variants: what differs between the files."""

    variant: str
    measures: dict[str, Any]
    variants: dict[str, dict[str, float]]
    fairness: dict[str, Any] | None
    answers: Answers
    mistakes: list[Mistake]

    def as_json(self) -> dict[str, Any]:
        """What `metrics.json` holds: no text of the data."""
        found = asdict(self)
        del found["answers"], found["mistakes"]
        return found


def evaluate(
    predictors: Mapping[str, Predictor],
    fields: ManifestFields,
    examples: Sequence[Example],
    *,
    fairness: Sequence[FairnessPair] = (),
) -> Evaluation:
    """Measure a classifier on labelled examples, all texts or all pairs.

    Labels 0 and 1 are compared with the likelier of negative and positive where a model of
    sentiment knows no other.

    Args:
        predictors: one a variant; the default variant is measured, the others compared with it.

    Raises:
        DatasetInvalid: the examples have labels that the model lacks, or pairs and texts are mixed
            up.
    """
    variant = fields.default_variant if fields.default_variant in predictors else min(predictors)
    predict = predictors[variant]
    inputs = [example.input for example in examples]
    _check_inputs(inputs, fields)
    tokenized = [entry.token_ids for entry in predict.tokenize(inputs)]
    rows = {name: predictor.scores(inputs) for name, predictor in predictors.items()}
    judged = _judge(rows[variant], fields, examples)
    lengths = [len(text) for text in tokenized]
    if judged.answers.right and len(judged.answers.right) == len(inputs):
        judged.measures["by_length"] = measures.by_length(lengths, np.array(judged.answers.right))
    return Evaluation(
        variant=variant,
        measures=judged.measures,
        variants=_compare_variants(predictors, rows, variant, tokenized, fields, examples),
        fairness=measure_fairness(predict, fairness) if fairness else None,
        answers=judged.answers,
        mistakes=judged.mistakes,
    )


def evaluate_embedding(
    predictors: Mapping[str, Predictor], fields: ManifestFields, pairs: Sequence[ScoredPair]
) -> Evaluation:
    """Measure an embedding model by how its cosines follow what people said of pairs."""
    variant = fields.default_variant if fields.default_variant in predictors else min(predictors)
    texts = [text for pair in pairs for text in (pair.first, pair.second)]
    truth = np.array([pair.score for pair in pairs])
    tokenized = [entry.token_ids for entry in predictors[variant].tokenize(texts)]
    rows = {name: predictor.rows(texts) for name, predictor in predictors.items()}
    cosines = {name: pair_cosines(vectors) for name, vectors in rows.items()}
    found = measures.numbers(truth, cosines[variant])
    del found["mean_absolute_error"], found["root_mean_squared_error"]
    for size in fields.matryoshka_dimensions:
        cut = pair_cosines(truncate_dimensions(rows[variant], size))
        found[f"spearman_at_{size}"] = measures.spearman(truth, cut)
    variants = {
        name: {
            "spearman": measures.spearman(truth, cosines[name]),
            "mean_cosine_with_served": float(_rowwise_cosines(rows[name], rows[variant]).mean()),
            **_speed(predictor, tokenized),
        }
        for name, predictor in predictors.items()
    }
    answers = Answers(truth=truth.tolist(), given=cosines[variant].tolist())
    return Evaluation(variant, found, variants, None, answers, [])


@dataclass(frozen=True)
class _Judged:
    measures: dict[str, Any]
    answers: Answers
    mistakes: list[Mistake]


def _judge(scores: FloatArray, fields: ManifestFields, examples: Sequence[Example]) -> _Judged:
    if fields.problem_type == "regression":
        truth = targets_of(examples, fields.labels, "regression")[:, 0]
        given = scores[:, 0]
        answers = Answers(truth=truth.tolist(), given=given.tolist())
        return _Judged(measures.numbers(truth, given), answers, [])
    scores, labels, examples = as_asked(scores, fields, examples)
    truth = targets_of(examples, labels, fields.problem_type)
    confidence, right = confidences(scores, truth, fields.problem_type)
    answers = Answers(confidence.tolist(), right.tolist())
    if fields.problem_type == "multi_label":
        found = measures.many_labels(truth, (scores >= 0.5).astype(np.int64), labels)
        mistakes: list[Mistake] = []
    else:
        found = measures.one_label(truth, scores.argmax(axis=1), labels)
        mistakes = _mistakes(scores, truth, labels, examples)
    found["calibration_error"] = calibration_error(scores, truth, fields.problem_type)
    found["reliability"] = reliability(confidence, right)
    return _Judged(found, answers, mistakes)


def as_asked(
    scores: FloatArray, fields: ManifestFields, examples: Sequence[Example]
) -> tuple[FloatArray, tuple[str, ...], list[Example]]:
    """Scores, labels and examples in each other's words.

    Data that knows 0 and 1 only asks a model of sentiment for the likelier of two labels.
    """
    asked = {example.label for example in examples}
    if not (asked <= BINARY.keys() and set(BINARY.values()) <= set(fields.labels)):
        return scores, fields.labels, list(examples)
    places = [fields.labels.index(label) for label in BINARY.values()]
    two = scores[:, places]
    renamed = [Example(e.text, BINARY[str(e.label)], e.pair) for e in examples]
    return two / two.sum(axis=1, keepdims=True), tuple(BINARY.values()), renamed


def _check_inputs(inputs: Sequence[Input], fields: ManifestFields) -> None:
    wants_pairs = fields.pair_separator_id is not None
    if not inputs or any(isinstance(entry, str) == wants_pairs for entry in inputs):
        wanted = "pairs of texts: name their column with --pair-column" if wants_pairs else "texts"
        raise DatasetInvalid(f"the model reads {wanted}")


def _mistakes(
    scores: FloatArray,
    truth: npt.NDArray[np.generic],
    labels: Sequence[str],
    examples: Sequence[Example],
) -> list[Mistake]:
    given = scores.argmax(axis=1)
    wrong = np.flatnonzero(given != truth)
    sure = scores[wrong, given[wrong]]
    return [
        Mistake(
            text=" | ".join(part for part in (examples[row].text, examples[row].pair) if part),
            truth=labels[int(truth[row])],
            given=labels[int(given[row])],
            confidence=float(scores[row, given[row]]),
        )
        for row in wrong[np.argsort(-sure, kind="stable")][:WORST].tolist()
    ]


def _compare_variants(
    predictors: Mapping[str, Predictor],
    rows: Mapping[str, FloatArray],
    served: str,
    tokenized: Sequence[Sequence[int]],
    fields: ManifestFields,
    examples: Sequence[Example],
) -> dict[str, dict[str, float]]:
    headline = {"single_label": "accuracy", "multi_label": "micro_f1", "regression": "spearman"}
    measure = headline[fields.problem_type]
    found = {}
    for name, predictor in predictors.items():
        apart = np.abs(rows[name] - rows[served])
        found[name] = {
            measure: float(_judge(rows[name], fields, examples).measures[measure]),
            "largest_difference_of_score": float(apart.max()),
            "mean_difference_of_score": float(apart.mean()),
            **_speed(predictor, tokenized),
        }
        if fields.problem_type == "single_label":
            same = rows[name].argmax(axis=1) == rows[served].argmax(axis=1)
            found[name]["same_label_as_served"] = float(same.mean())
    return found


def _speed(predict: Predictor, tokenized: Sequence[Sequence[int]]) -> dict[str, float]:
    """On one core: in runs as the server packs them, and of texts alone."""
    rate = tokens_per_s(
        predict.encoder, tokenized, max_batch_tokens=SPEED_BATCH_TOKENS, seconds=SPEED_S
    )
    alone = []
    for text in tokenized[:LATENCY_TEXTS]:
        started_s = time.perf_counter()
        predict.encoder([text])
        alone.append(time.perf_counter() - started_s)
    mean_tokens = statistics.fmean(map(len, tokenized))
    return {
        "tokens_per_s": rate,
        "texts_per_s": rate / mean_tokens,
        "p50_ms_of_a_text_alone": statistics.median(alone) * 1000,
    }


def pair_cosines(vectors: FloatArray) -> FloatArray:
    """Of each first text with its second: [2 n, d] -> [n]."""
    return _rowwise_cosines(vectors[0::2], vectors[1::2])


def _rowwise_cosines(left: FloatArray, right: FloatArray) -> FloatArray:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    result: FloatArray = (left * right).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    return result
