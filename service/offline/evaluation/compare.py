"""Whether one model is better than another, or the data too few to tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from service.offline.data import Example, ScoredPair
from service.offline.evaluation.evaluate import as_asked, pair_cosines
from service.offline.evaluation.measures import macro_f1_of, spearman
from service.offline.evaluation.targets import targets_of
from service.offline.predict import Predictor
from service.store.manifest import ManifestFields

Array = npt.NDArray[np.generic]

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
    interval: tuple[float, float]
    p_value: float

    @property
    def verdict(self) -> str:
        if self.p_value >= LEVEL:
            return f"no significant difference ({LEVEL:g})"
        return "the second is better" if self.second > self.first else "the first is better"


def compare_classifiers(
    first: Predictor, second: Predictor, examples: Sequence[Example]
) -> list[Comparison]:
    """Accuracy by McNemar's exact test (McNemar, 1947), macro F1 by the paired bootstrap; of
    numbers, Spearman by the paired bootstrap."""
    if first.fields.problem_type == "regression":
        truth = targets_of(examples, first.fields.labels, "regression")[:, 0]
        inputs = [example.input for example in examples]
        given = [predict.scores(inputs)[:, 0] for predict in (first, second)]
        return [_bootstrap("spearman", spearman, truth, given[0], given[1])]
    (truth, a), (_, b) = (_labels(predict, examples) for predict in (first, second))
    _, codes = np.unique(np.stack([truth, a, b]), return_inverse=True)
    truth, a, b = codes.reshape(3, -1)
    return [_mcnemar(truth, a, b), _bootstrap("macro_f1", _macro_f1, truth, a, b)]


def compare_embeddings(
    first: Predictor, second: Predictor, pairs: Sequence[ScoredPair]
) -> list[Comparison]:
    """Spearman of cosine and human score by the paired bootstrap."""
    texts = [text for pair in pairs for text in (pair.first, pair.second)]
    truth = np.array([pair.score for pair in pairs])
    a, b = (pair_cosines(predict.rows(texts)) for predict in (first, second))
    return [_bootstrap("spearman", spearman, truth, a, b)]


def _labels(predict: Predictor, examples: Sequence[Example]) -> tuple[Array, Array]:
    """Truth and answers as names, as two models may have their labels in another order."""
    fields: ManifestFields = predict.fields
    scores = predict.scores([example.input for example in examples])
    scores, labels, renamed = as_asked(scores, fields, examples)
    if fields.problem_type == "multi_label":
        truth = targets_of(renamed, labels, "multi_label")
        return _as_sets(truth > 0), _as_sets(scores >= 0.5)  # type: ignore[operator]
    names = np.array(labels)
    targets = targets_of(renamed, labels, "single_label")
    return names[targets.astype(int)], names[scores.argmax(axis=1)]


def _as_sets(chosen: npt.NDArray[np.bool_]) -> Array:
    """A text's answer is right if all its labels are: the set is what is compared."""
    return np.array(["".join("1" if one else "0" for one in row) for row in chosen])


def _mcnemar(truth: Array, a: Array, b: Array) -> Comparison:
    right_a, right_b = a == truth, b == truth
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    disagree = only_a + only_b
    p_value = float(binomtest(only_a, disagree).pvalue) if disagree else 1.0
    rest = _bootstrap("accuracy", lambda t, given: float((t == given).mean()), truth, a, b)
    return Comparison("accuracy", rest.first, rest.second, rest.interval, p_value)


def _bootstrap(
    name: str, measure: Callable[[Array, Array], float], truth: Array, a: Array, b: Array
) -> Comparison:
    """The same rows are drawn for both, so that hard texts weigh on both alike."""
    rng = np.random.default_rng(0)
    differences = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        rows = rng.integers(len(truth), size=len(truth))
        differences[index] = measure(truth[rows], b[rows]) - measure(truth[rows], a[rows])
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    beyond = min((differences <= 0).mean(), (differences >= 0).mean())
    return Comparison(
        name, measure(truth, a), measure(truth, b), (float(low), float(high)),
        min(1.0, 2 * float(beyond)),
    )  # fmt: skip


def _macro_f1(truth: Array, given: Array) -> float:
    codes = int(max(truth.max(), given.max())) + 1
    cells = np.bincount(truth.astype(int) * codes + given.astype(int), minlength=codes * codes)
    return macro_f1_of(cells.reshape(codes, codes))
