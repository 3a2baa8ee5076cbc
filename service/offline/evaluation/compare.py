"""Whether one model is better than another, or the data too few to tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from service.offline.data import Example, ScoredPair
from service.offline.evaluation.asked import BINARY, as_asked, check_inputs
from service.offline.evaluation.classification import Marks, macro_f1_of_draws
from service.offline.evaluation.correlation import spearman_of_draws
from service.offline.evaluation.embedding import pair_cosines
from service.offline.evaluation.intervals import Draws, Interval, Values, interval_of, resample
from service.offline.evaluation.retrieval import never_wrong, ranks
from service.offline.evaluation.targets import targets_of
from service.offline.predict import Predictor

Array = npt.NDArray[np.generic]
OfDraws = Callable[[Draws], Values]

RESAMPLES = 2000
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """A measure of both on the same texts, b minus a, and whether chance alone explains it.

    interval: of the difference, 95 %. p_value: of a difference this large by chance.
    """

    measure: str
    first: float
    second: float
    interval: Interval
    p_value: float

    def verdict(self, first: str = "A", second: str = "B") -> str:
        """A sentence, with the names that are given."""
        if not self.p_value < LEVEL:
            return f"no significant difference at {LEVEL:g}"
        return f"{second if self.second > self.first else first} is better"


def compare_classifiers(
    first: Predictor, second: Predictor, examples: Sequence[Example]
) -> list[Comparison]:
    """Accuracy by McNemar's exact test (McNemar, 1947), macro F1 by the paired bootstrap; of
    numbers, Spearman by the paired bootstrap.

    Of texts with any number of labels, an answer is right if all of them are.

    Raises:
        DatasetInvalid: the examples are none, have labels that a model lacks, or are texts where
            the models read pairs, or the other way round.
    """
    inputs = [example.input for example in examples]
    for predict in (first, second):
        check_inputs(inputs, predict.fields)
    if first.fields.problem_type == "regression":
        truth = targets_of(examples, first.fields.labels, "regression")[:, 0]
        a, b = (predict.scores(inputs)[:, 0] for predict in (first, second))
        return [_spearman(truth, a, b)]
    wanted, (given_a, given_b) = _as_marks(
        examples, [_answers(p, examples) for p in (first, second)]
    )
    f1_a, f1_b = (macro_f1_of_draws(wanted, given) for given in (given_a, given_b))
    name = "exact" if first.fields.problem_type == "multi_label" else "accuracy"
    right_a, right_b = ((wanted == given).all(axis=1) for given in (given_a, given_b))
    return [
        _mcnemar(name, right_a, right_b),
        _bootstrap("macro_f1", f1_a, f1_b, len(wanted)),
    ]


def compare_embeddings(
    first: Predictor, second: Predictor, pairs: Sequence[ScoredPair]
) -> list[Comparison]:
    """Spearman of cosine and human score by the paired bootstrap.

    Pairs of one score have no order to follow: of them recall at 1 by McNemar's test, and the mean
    reciprocal rank by the paired bootstrap.
    """
    texts = [text for pair in pairs for text in (pair.first, pair.second)]
    a, b = (predict.rows(texts) for predict in (first, second))
    scores = np.array([pair.score for pair in pairs])
    if len(set(scores.tolist())) > 1:
        return [_spearman(scores, pair_cosines(a), pair_cosines(b))]
    right = never_wrong(texts[0::2], texts[1::2])
    ranks_a, ranks_b = (ranks(vectors[0::2], vectors[1::2], right) for vectors in (a, b))
    mrr_a, mrr_b = (_mean_of(1 / found) for found in (ranks_a, ranks_b))
    return [
        _mcnemar("recall_at_1", ranks_a == 1, ranks_b == 1),
        _bootstrap("mean_reciprocal_rank", mrr_a, mrr_b, len(pairs)),
    ]


def _answers(predict: Predictor, examples: Sequence[Example]) -> list[set[str]]:
    """The labels that each text is given, by name: models may have them in another order."""
    scores = predict.scores([example.input for example in examples])
    scores, labels, renamed = as_asked(scores, predict.fields, examples)
    # Also refuses labels that the model does not know.
    targets_of(renamed, labels, predict.fields.problem_type)
    if predict.fields.problem_type == "multi_label":
        return [{labels[place] for place in np.flatnonzero(row >= 0.5)} for row in scores]
    return [{labels[place]} for place in scores.argmax(axis=1)]


def _as_marks(
    examples: Sequence[Example], answers: Sequence[list[set[str]]]
) -> tuple[Marks, list[Marks]]:
    """Truth and answers over the labels of all of them, [texts, labels]."""
    truth = [_names_of(example) for example in examples]
    asked_binary = set().union(*truth) <= BINARY.keys()
    sides = [
        [{BINARY.get(name, name) if asked_binary else name for name in names} for names in side]
        for side in (truth, *answers)
    ]
    names = sorted(set().union(*chain.from_iterable(sides)))
    place = {name: index for index, name in enumerate(names)}
    marks = [np.zeros((len(truth), len(place)), dtype=np.float32) for _ in sides]
    for side, mark in zip(sides, marks, strict=True):
        for row, held in enumerate(side):
            mark[row, [place[name] for name in held]] = 1
    return marks[0], marks[1:]


def _names_of(example: Example) -> set[str]:
    return set(example.label) if isinstance(example.label, tuple) else {str(example.label)}


def _mcnemar(name: str, right_a: Array, right_b: Array) -> Comparison:
    """Of the rows that each has right, [n] of True and False."""
    hits_a, hits_b = (np.asarray(right, dtype=np.float64) for right in (right_a, right_b))
    only_a, only_b = int((hits_a > hits_b).sum()), int((hits_b > hits_a).sum())
    disagree = only_a + only_b
    p_value = float(binomtest(only_a, disagree).pvalue) if disagree else 1.0
    interval = _bootstrap(name, _mean_of(hits_a), _mean_of(hits_b), len(hits_a)).interval
    return Comparison(name, float(hits_a.mean()), float(hits_b.mean()), interval, p_value)


def _mean_of(values: npt.NDArray[np.float64]) -> OfDraws:
    return lambda draws: values[draws].mean(axis=1)


def _spearman(truth: Array, a: Array, b: Array) -> Comparison:
    of_a, of_b = (spearman_of_draws(truth, given) for given in (a, b))
    return _bootstrap("spearman", of_a, of_b, len(truth))


def _bootstrap(name: str, of_a: OfDraws, of_b: OfDraws, rows: int) -> Comparison:
    """The same rows are drawn for both, so that hard texts weigh on both alike.

    What cannot be measured, such as the ranks of a constant, proves no difference.
    """
    differences = resample(lambda draws: of_b(draws) - of_a(draws), rows, resamples=RESAMPLES)
    known = differences[np.isfinite(differences)]
    # One more than was drawn: no number of draws proves that chance never does it.
    beyond = (1 + min((known <= 0).sum(), (known >= 0).sum())) / (1 + len(known))
    whole = np.arange(rows)[None, :]
    first, second = (float(of_draws(whole)[0]) for of_draws in (of_a, of_b))
    p_value = min(1.0, 2 * float(beyond)) if np.isfinite(second - first) else 1.0
    return Comparison(name, first, second, interval_of(known), p_value)
