"""What a classifier is trained for and judged by on its dev split, by the kind of its problem."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.nn import functional

from service.runtime.outputs import ProblemType

Loss = Callable[[Tensor, Tensor], Tensor]

# The first is what early stopping looks at.
SCORES = {"single_label": "macro_f1", "multi_label": "micro_f1", "regression": "spearman"}


def loss_of(
    problem_type: ProblemType, targets: Tensor, *, class_weights: bool, label_smoothing: float
) -> Loss:
    """The mean loss of logits [n, labels] and targets.

    Args:
        targets: of the training split: [n] int64 of one label, [n, labels] float32 of many, [n, 1]
            float32 of regression.
        class_weights: rare labels count as much as frequent ones.
        label_smoothing: share of the certainty that is spread over all labels (Szegedy et al.,
            2016, arXiv:1512.00567).
    """
    if problem_type == "regression":
        return functional.mse_loss
    weights = _balanced(problem_type, targets) if class_weights else None
    if problem_type == "single_label":

        def cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
            weight = None if weights is None else weights.to(logits.device)
            return functional.cross_entropy(
                logits, wanted, weight=weight, label_smoothing=label_smoothing
            )

        return cross_entropy

    def each_label(logits: Tensor, wanted: Tensor) -> Tensor:
        smooth = wanted * (1 - label_smoothing) + label_smoothing / 2
        weight = None if weights is None else weights.to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weight)

    return each_label


def dev_scores(
    problem_type: ProblemType, logits: npt.NDArray[np.float32], targets: npt.NDArray[np.generic]
) -> dict[str, float]:
    """What is measured on the dev split; `SCORES` says which number decides."""
    if problem_type == "regression":
        values, truth = logits[:, 0], np.asarray(targets)[:, 0]
        constant = np.ptp(values) == 0 or np.ptp(truth) == 0
        rank = 0.0 if constant else float(spearmanr(values, truth).statistic)
        return {"spearman": rank, "rmse": float(np.sqrt(np.mean((values - truth) ** 2)))}
    if problem_type == "multi_label":
        found = logits > 0
        return {
            "micro_f1": float(f1_score(targets, found, average="micro", zero_division=0)),
            "macro_f1": float(f1_score(targets, found, average="macro", zero_division=0)),
        }
    found = logits.argmax(axis=1)
    return {
        "macro_f1": float(f1_score(targets, found, average="macro", zero_division=0)),
        "accuracy": float(accuracy_score(targets, found)),
    }


def _balanced(problem_type: ProblemType, targets: Tensor) -> Tensor:
    """Inverse frequency: a mean of 1 over the texts; of many labels, misses by hits of each."""
    if problem_type == "single_label":
        counts = torch.bincount(targets).float()
        return counts.sum() / (len(counts) * counts)
    hits = targets.sum(dim=0)
    return (len(targets) - hits) / hits.clamp(min=1)
