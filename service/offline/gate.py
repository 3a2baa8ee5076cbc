"""Whether an int8 variant may be served: what it loses against fp32, measured, against a bar.

Without a file the two variants are compared with each other on sentences; with one, both are
compared with what people said: scored pairs for embeddings, labelled texts for classifiers.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from service.offline.data import Example, Input, ScoredPair
from service.runtime.outputs import ProblemType

FloatArray = npt.NDArray[np.float32]
# Texts or pairs -> embeddings or logits, [n, width] in their order.
Encode = Callable[[Sequence[Input]], FloatArray]
# Texts -> their tokens' vectors, [tokens of the text, d] each.
EncodeTokens = Callable[[Sequence[Input]], Iterable[FloatArray]]

LEAST_MEAN_COSINE = 0.98
LEAST_SIMILARITY_SPEARMAN = 0.99
LEAST_LABEL_AGREEMENT = 0.97
# 0.5 points out of 100, of Spearman or of accuracy.
MOST_DROP = 0.005
# Of numbers and of single scores: their order, and the share of their variance that is kept.
LEAST_SCORE_SPEARMAN = 0.99
LEAST_VARIANCE_KEPT = 0.98
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Verdict:
    """What was measured, and what of it missed its bar; nothing missed admits the variant."""

    quality: dict[str, float]
    missed: tuple[str, ...]

    @property
    def admitted(self) -> bool:
        return not self.missed


def compare_embeddings(fp32: Encode, int8: Encode, texts: Sequence[Input]) -> Verdict:
    """Mean cosine of the two vectors of a text, and whether all pairs keep their rank."""
    ours, theirs = _unit(fp32(texts)), _unit(int8(texts))
    cosine = float((ours * theirs).sum(axis=1).mean())
    above = np.triu_indices(len(texts), k=1)
    spearman = _spearman((ours @ ours.T)[above], (theirs @ theirs.T)[above])
    return _verdict(
        {"mean_cosine": cosine, "similarity_spearman": spearman},
        {"mean_cosine": LEAST_MEAN_COSINE, "similarity_spearman": LEAST_SIMILARITY_SPEARMAN},
    )


def compare_labels(
    fp32: Encode,
    int8: Encode,
    inputs: Sequence[Input],
    problem_type: ProblemType = "single_label",
) -> Verdict:
    """The share of inputs to which both give the same labels, and the mean cosine of their logits.

    The cosine tells where nearly all texts have one label, and agreement is no feat. Numbers, and a
    single score, have no labels to agree on: of them the order and the distances count.
    """
    ours, theirs = fp32(inputs), int8(inputs)
    if problem_type == "regression" or ours.shape[1] == 1:
        return _compare_numbers(ours, theirs)
    if problem_type == "multi_label":
        agreement = float(((ours > 0) == (theirs > 0)).mean())
    else:
        agreement = float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean())
    cosine = float((_unit(ours) * _unit(theirs)).sum(axis=1).mean())
    return _verdict(
        {"label_agreement": agreement, "mean_cosine": cosine},
        {"label_agreement": LEAST_LABEL_AGREEMENT, "mean_cosine": LEAST_MEAN_COSINE},
    )


def compare_tokens(fp32: EncodeTokens, int8: EncodeTokens, texts: Sequence[Input]) -> Verdict:
    """Mean cosine of the two vectors of a token, over all tokens of the texts."""
    cosines = [
        (_unit(ours) * _unit(theirs)).sum(axis=1)
        for ours, theirs in zip(fp32(texts), int8(texts), strict=True)
    ]
    return _verdict(
        {"token_mean_cosine": float(np.concatenate(cosines).mean())},
        {"token_mean_cosine": LEAST_MEAN_COSINE},
    )


def compare_on_pairs(fp32: Encode, int8: Encode, pairs: Sequence[ScoredPair]) -> Verdict:
    """Spearman of cosine and human score, of both variants; and their mean cosine."""
    firsts, seconds = [pair.first for pair in pairs], [pair.second for pair in pairs]
    scores = np.array([pair.score for pair in pairs])
    sides = {
        name: (_unit(encode(firsts)), _unit(encode(seconds)))
        for name, encode in (("fp32", fp32), ("int8", int8))
    }
    spearman = {name: _spearman((a * b).sum(axis=1), scores) for name, (a, b) in sides.items()}
    both = [(x * y).sum(axis=1) for x, y in zip(sides["fp32"], sides["int8"], strict=True)]
    cosine = float(np.concatenate(both).mean())
    quality = {"mean_cosine": cosine}
    quality |= {f"sts_spearman_{name}": value for name, value in spearman.items()}
    least = {
        "mean_cosine": LEAST_MEAN_COSINE,
        "sts_spearman_int8": spearman["fp32"] - MOST_DROP,
    }
    return _verdict(quality, least)


def compare_on_examples(
    fp32: Encode, int8: Encode, examples: Sequence[Example], labels: Sequence[str]
) -> Verdict:
    """The accuracy of both variants on labelled texts or pairs."""
    texts = [example.input for example in examples]
    truth = np.array([example.label for example in examples])
    names = np.array(labels)
    accuracy = {
        f"accuracy_{name}": float((names[encode(texts).argmax(axis=1)] == truth).mean())
        for name, encode in (("fp32", fp32), ("int8", int8))
    }
    return _verdict(accuracy, {"accuracy_int8": accuracy["accuracy_fp32"] - MOST_DROP})


def _compare_numbers(ours: FloatArray, theirs: FloatArray) -> Verdict:
    """Of the worst of the columns: Spearman, and 1 - mean squared difference / variance."""
    columns = list(zip(ours.T, theirs.T, strict=True))
    kept = [1 - float(np.mean((a - b) ** 2)) / max(float(np.var(a)), _LEAST) for a, b in columns]
    return _verdict(
        {
            "score_spearman": min(_spearman(a, b) for a, b in columns),
            "variance_kept": min(kept),
        },
        {"score_spearman": LEAST_SCORE_SPEARMAN, "variance_kept": LEAST_VARIANCE_KEPT},
    )


def _verdict(quality: dict[str, float], least: dict[str, float]) -> Verdict:
    missed = tuple(
        f"{name} is {quality[name]:.4f}, needed is {bar:.4f}"
        for name, bar in least.items()
        # NaN, as of constant vectors, misses every bar.
        if not quality[name] >= bar
    )
    return Verdict({name: value for name, value in quality.items() if value == value}, missed)


def _unit(rows: FloatArray) -> FloatArray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    result: FloatArray = rows / np.maximum(norms, np.finfo(np.float32).tiny)
    return result


def _spearman(left: npt.NDArray[np.floating], right: npt.NDArray[np.floating]) -> float:
    """NaN where one side is constant and so has no ranks."""
    if not (np.ptp(left) and np.ptp(right)):
        return float("nan")
    return float(spearmanr(left, right).statistic)
