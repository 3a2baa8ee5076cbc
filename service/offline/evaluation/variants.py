"""What differs between the files of a model: how right they are, how alike, how fast."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from service.offline.data import Example
from service.offline.evaluation import classification
from service.offline.evaluation.asked import as_asked
from service.offline.evaluation.correlation import spearman
from service.offline.evaluation.embedding import pair_cosines, row_cosines
from service.offline.evaluation.targets import targets_of
from service.offline.predict import Predictor
from service.runtime.outputs import label_scores
from service.runtime.session import Encoder
from service.runtime.speed import tokens_per_s
from service.store.manifest import ManifestFields

FloatArray = npt.NDArray[np.float32]
Numbers = dict[str, float]

SPEED_S = 0.3
# A small model is measured sooner.
SPEED_RUNS = 100
SPEED_BATCH_TOKENS = 128
LATENCY_TEXTS = 30


def headline(scores: FloatArray, fields: ManifestFields, examples: Sequence[Example]) -> Numbers:
    """The one or two numbers that a classifier is known by, without intervals.

    Accuracy and macro F1; of many labels micro and macro F1; of numbers Spearman.

    Args:
        scores: [n, labels], as `Predictor.scores`.

    Raises:
        DatasetInvalid: an example has a label that the model lacks.
    """
    if fields.problem_type == "regression":
        numbers = targets_of(examples, fields.labels, "regression").astype(np.float64)
        return {"spearman": float(spearman(numbers[:, 0], scores[:, 0]))}
    scores, labels, examples = as_asked(scores, fields, examples)
    truth = targets_of(examples, labels, fields.problem_type)
    if fields.problem_type == "multi_label":
        wanted, answered = (side.astype(np.float32) for side in (truth, scores >= 0.5))
        return {
            "micro_f1": classification.micro_f1_of(wanted, answered),
            "macro_f1": classification.macro_f1_of(wanted, answered),
        }
    given = scores.argmax(axis=1)
    wanted, answered = (classification.marks_of(side, len(labels)) for side in (truth, given))
    return {
        "accuracy": float((truth == given).mean()),
        "macro_f1": classification.macro_f1_of(wanted, answered),
    }


def compare_classifiers(
    predictors: Mapping[str, Predictor],
    logits: Mapping[str, FloatArray],
    served: str,
    examples: Sequence[Example],
) -> dict[str, Numbers]:
    """A row a file: its headline, and how far its scores are from those of the served file."""
    fields = predictors[served].fields
    scores = {name: label_scores(rows, fields.problem_type) for name, rows in logits.items()}
    found = {}
    for name in predictors:
        apart = np.abs(scores[name] - scores[served])
        found[name] = {
            **headline(scores[name], fields, examples),
            "largest_difference_of_score": float(apart.max()),
            "mean_difference_of_score": float(apart.mean()),
        }
        if fields.problem_type != "regression":
            same = _same_labels(scores[name], scores[served], fields)
            cosines = row_cosines(logits[name], logits[served])
            found[name]["same_label_as_served"] = float(same.mean())
            found[name]["mean_cosine_with_served"] = float(cosines.mean())
    return found


def compare_embeddings(
    vectors: Mapping[str, FloatArray], served: str, measure: Callable[[FloatArray], Numbers]
) -> dict[str, Numbers]:
    """A row a file: what is measured of its vectors, [2 pairs, d], and how they lie to those of
    the served one."""
    return {
        name: {
            **measure(rows),
            "mean_cosine_with_served": float(row_cosines(rows, vectors[served]).mean()),
            "largest_difference_of_cosine": float(
                np.abs(pair_cosines(rows) - pair_cosines(vectors[served])).max()
            ),
        }
        for name, rows in vectors.items()
    }


def speed(predict: Predictor, tokenized: Sequence[Sequence[int]]) -> Numbers:
    """On one core: tokens and texts a second in runs as the server packs them, and the median time
    of a text alone in milliseconds; tokenizing is not counted."""
    rate = one_core_tokens_per_s(predict.encoder, tokenized)
    alone = [_seconds(predict, text) for text in tokenized[:LATENCY_TEXTS]]
    return {
        "tokens_per_s": rate,
        "texts_per_s": rate / statistics.fmean(map(len, tokenized)),
        "p50_ms_of_a_text_alone": statistics.median(alone) * 1000,
    }


def one_core_tokens_per_s(encoder: Encoder, tokenized: Sequence[Sequence[int]]) -> float:
    """Of runs as the server packs them, after one that warms up; the session has one thread."""
    encoder(tokenized[:1])
    return tokens_per_s(
        encoder,
        tokenized,
        max_batch_tokens=SPEED_BATCH_TOKENS,
        seconds=SPEED_S,
        most_runs=SPEED_RUNS,
    )


def _same_labels(
    ours: FloatArray, served: FloatArray, fields: ManifestFields
) -> npt.NDArray[np.bool_]:
    """Of a text with any number of labels, each label is an answer."""
    same: npt.NDArray[np.bool_] = (
        (ours >= 0.5) == (served >= 0.5)
        if fields.problem_type == "multi_label"
        else ours.argmax(axis=1) == served.argmax(axis=1)
    )
    return same


def _seconds(predict: Predictor, text: Sequence[int]) -> float:
    started_s = time.perf_counter()
    predict.encoder([text])
    return time.perf_counter() - started_s
