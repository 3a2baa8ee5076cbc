"""A model, published or about to be, on data whose truth is known, through the runtime."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import DatasetInvalid
from service.offline.data import Example, ScoredPair
from service.offline.evaluation import (
    classification,
    correlation,
    embedding,
    lengths,
    mistakes,
    retrieval,
)
from service.offline.evaluation.asked import as_asked, check_inputs
from service.offline.evaluation.calibration import (
    binned_error,
    confidences,
    error_by_chance,
    reliability,
)
from service.offline.evaluation.fairness import FairnessPair, measure_fairness
from service.offline.evaluation.mistakes import Mistake
from service.offline.evaluation.targets import targets_of
from service.offline.evaluation.variants import compare_classifiers, compare_embeddings, speed
from service.offline.predict import Predictor
from service.runtime.outputs import label_scores
from service.store.manifest import ManifestFields

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Answers:
    """What the plots show.

    confidence: how sure each answer was; of many labels, the score of each label of each text.
    right: 1.0 where the answer is right; of many labels, where the text has the label.
    is_right: of each text, 1.0 where all of its labels are right.
    truth, given: the numbers of regression and of scored pairs.
    """

    confidence: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    is_right: list[float] = field(default_factory=list)
    truth: list[float] = field(default_factory=list)
    given: list[float] = field(default_factory=list)


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
        """What `metrics.json` holds: no text of the data, and null for what has no number."""
        found: dict[str, Any] = finite(asdict(self))
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

    Labels 0 and 1, or neg and pos, are compared with the likelier of negative and positive where a
    model of sentiment knows no such names.

    Args:
        predictors: one a variant; the default variant is measured, the others compared with it.

    Raises:
        DatasetInvalid: the examples have labels that the model lacks, or pairs and texts are mixed
            up.
    """
    variant = _served(predictors, fields)
    predict = predictors[variant]
    inputs = [example.input for example in examples]
    check_inputs(inputs, fields)
    tokenized = [entry.token_ids for entry in predict.tokenize(inputs)]
    logits = {name: predictor.rows(inputs) for name, predictor in predictors.items()}
    scores = label_scores(logits[variant], fields.problem_type)
    found, answers, worst = _judge(scores, fields, examples)
    tokens = [len(text) for text in tokenized]
    if fields.problem_type == "regression":
        errors = np.abs(np.subtract(answers.given, answers.truth))
        found["error_by_length"] = lengths.error_by_length(tokens, errors)
    else:
        found["by_length"] = lengths.right_by_length(tokens, np.array(answers.is_right))
    files = compare_classifiers(predictors, logits, variant, examples)
    return Evaluation(
        variant=variant,
        measures=found,
        variants={name: row | speed(predictors[name], tokenized) for name, row in files.items()},
        fairness=measure_fairness(predict, fairness) if fairness else None,
        answers=answers,
        mistakes=worst,
    )


def evaluate_embedding(
    predictors: Mapping[str, Predictor], fields: ManifestFields, pairs: Sequence[ScoredPair]
) -> Evaluation:
    """Measure an embedding model by how its cosines follow what people said of pairs.

    Pairs of one score, as `read_belonging_pairs` makes them, have no order to follow: of them, how
    well the texts find each other among all of the pairs.

    Raises:
        DatasetInvalid: there are no pairs.
    """
    if not pairs:
        raise DatasetInvalid("there is nothing to measure on: the data has no rows")
    variant = _served(predictors, fields)
    texts = [text for pair in pairs for text in (pair.first, pair.second)]
    truth = np.array([pair.score for pair in pairs], dtype=np.float64)
    tokenized = [entry.token_ids for entry in predictors[variant].tokenize(texts)]
    vectors = {name: predictor.rows(texts) for name, predictor in predictors.items()}
    sizes = fields.matryoshka_dimensions
    if len({pair.score for pair in pairs}) == 1:
        measures = retrieval.belonging_pairs(texts, vectors[variant], sizes)
        right = retrieval.never_wrong(texts[0::2], texts[1::2])
        files = compare_embeddings(vectors, variant, lambda rows: retrieval.headline(rows, right))
        answers = Answers()
    else:
        measures = embedding.scored_pairs(truth, vectors[variant], sizes)
        files = compare_embeddings(vectors, variant, lambda rows: embedding.headline(truth, rows))
        given = embedding.pair_cosines(vectors[variant])
        answers = Answers(truth=truth.tolist(), given=given.tolist())
    return Evaluation(
        variant=variant,
        measures=measures,
        variants={name: row | speed(predictors[name], tokenized) for name, row in files.items()},
        fairness=None,
        answers=answers,
        mistakes=[],
    )


def _served(predictors: Mapping[str, Predictor], fields: ManifestFields) -> str:
    return fields.default_variant if fields.default_variant in predictors else min(predictors)


def _judge(
    scores: FloatArray, fields: ManifestFields, examples: Sequence[Example]
) -> tuple[dict[str, Any], Answers, list[Mistake]]:
    if fields.problem_type == "regression":
        truth = targets_of(examples, fields.labels, "regression")[:, 0]
        given = scores[:, 0]
        answers = Answers(truth=truth.tolist(), given=given.tolist())
        worst = mistakes.of_numbers(truth, given, examples)
        return correlation.numbers(truth, given), answers, worst
    scores, labels, examples = as_asked(scores, fields, examples)
    truth = targets_of(examples, labels, fields.problem_type)
    if fields.problem_type == "multi_label":
        given = (scores >= 0.5).astype(np.float32)
        is_right = (given == truth).all(axis=1)
        found = classification.many_labels(truth, given, labels)
        worst = mistakes.of_many_labels(scores, truth, given, labels, examples)
    else:
        given = scores.argmax(axis=1)
        is_right = given == truth
        found = classification.one_label(truth, given, labels)
        worst = mistakes.of_one_label(scores, truth, labels, examples)
    sure, right = confidences(scores, truth, fields.problem_type)
    found["calibration_error"] = binned_error(sure, right)
    found["calibration_error_by_chance"] = error_by_chance(sure)
    found["reliability"] = reliability(sure, right)
    return found, Answers(sure.tolist(), right.tolist(), is_right.astype(float).tolist()), worst


def finite(value: Any) -> Any:
    """JSON knows no NaN: what could not be computed is None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value
