"""What vectors of pairs are trained for, a mean over the pairs of a step.

`contrastive`: of all second texts of the step, each first text is nearest to its own (InfoNCE; van
den Oord et al., 2018, arXiv:1807.03748). `cosine`: the cosine of a pair is what people scored.
`ranking`: pairs that people found more alike have the larger cosine (CoSENT; Su, 2022).
"""

from collections.abc import Hashable, Sequence
from typing import Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional

from service.errors import InvalidField
from service.offline.evaluation.retrieval import never_wrong

Objective = Literal["contrastive", "cosine", "ranking"]


def read_objective(word: str) -> Objective:
    """The word of the command line.

    Raises:
        InvalidField: it is unknown.
    """
    if word not in get_args(Objective):
        raise InvalidField("objective is cosine, ranking or contrastive", param="objective")
    return cast(Objective, word)


def contrastive(
    firsts: Tensor, seconds: Tensor, scores: Tensor, scale: float, right: Tensor | None
) -> Tensor:
    """Both ways: the second of each first, and the first of each second.

    What is right of other pairs is left out of the sum over wrong answers: one answer to two
    questions of a step would else be pushed away from both.
    """
    similarity = firsts @ seconds.T * scale
    own = torch.arange(len(firsts), device=firsts.device)
    if right is not None:
        others = right & (own[:, None] != own)
        similarity = similarity.masked_fill(others, -torch.inf)
    one_way = functional.cross_entropy(similarity, own)
    return (one_way + functional.cross_entropy(similarity.T, own)) / 2


def cosine(
    firsts: Tensor, seconds: Tensor, scores: Tensor, scale: float, right: Tensor | None
) -> Tensor:
    return functional.mse_loss((firsts * seconds).sum(dim=1), scores)


def ranking(
    firsts: Tensor, seconds: Tensor, scores: Tensor, scale: float, right: Tensor | None
) -> Tensor:
    """log(1 + sum of exp(scale * (cosine of the less alike - cosine of the more alike)))."""
    cosines = (firsts * seconds).sum(dim=1) * scale
    wrong_by = cosines[:, None] - cosines[None, :]
    less_alike = scores[:, None] < scores[None, :]
    terms = wrong_by[less_alike]
    return torch.logsumexp(torch.cat([terms.new_zeros(1), terms]), dim=0)


def right_answers(firsts: Sequence[Hashable], seconds: Sequence[Hashable]) -> Tensor:
    """Which second texts, [n, n], are no wrong answers to which first ones, as `never_wrong`."""
    right = torch.zeros(len(firsts), len(seconds), dtype=torch.bool)
    for row, columns in enumerate(never_wrong(firsts, seconds)):
        right[row, columns] = True
    return right


LOSSES = {"contrastive": contrastive, "cosine": cosine, "ranking": ranking}
