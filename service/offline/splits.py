"""Parts of the data that share no text and have each label in the same share."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from service.offline.cleaning import key_of
from service.offline.data import Example
from service.runtime.outputs import ProblemType

QUANTILES = 8
# Sets of labels rarer than this are spread as one: of so few, no share can be kept.
RARE = 4


def split(
    examples: Sequence[Example], problem_type: ProblemType, fractions: Sequence[float], seed: int
) -> list[list[Example]]:
    """The rest, then a part for each of `fractions`; the same seed gives the same parts.

    Each part has its share of every label (of regression, of every eighth of the range) and at
    least one text of it where there are enough; duplicates stay together.
    """
    strata: dict[object, list[list[Example]]] = defaultdict(list)
    for group, stratum in _groups(examples, problem_type):
        strata[stratum].append(group)
    parts: list[list[Example]] = [[] for _ in range(len(fractions) + 1)]
    rng = random.Random(seed)
    for stratum in sorted(strata, key=repr):
        groups = strata[stratum]
        rng.shuffle(groups)
        for part, taken in zip(parts, _shares(groups, fractions), strict=True):
            part += [example for group in taken for example in group]
    for part in parts:
        rng.shuffle(part)
    return parts


def _shares(groups: list[list[Example]], fractions: Sequence[float]) -> list[list[list[Example]]]:
    counts = [max(1, round(fraction * len(groups))) for fraction in fractions]
    if len(groups) <= sum(counts):
        # Too few for a text in each part: training goes first.
        counts = [min(1, max(0, len(groups) - 1 - at)) for at in range(len(fractions))]
    shares = []
    start = 0
    for count in counts:
        shares.append(groups[start : start + count])
        start += count
    return [groups[start:], *shares]


def _groups(
    examples: Sequence[Example], problem_type: ProblemType
) -> list[tuple[list[Example], object]]:
    """Duplicates together, in the order in which they came, each group with its stratum."""
    by_key: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_key[key_of(example)].append(example)
    groups = list(by_key.values())
    labels = [group[0].label for group in groups]
    if problem_type == "regression":
        edges = np.quantile(np.array(labels, dtype=float), np.linspace(0, 1, QUANTILES + 1)[1:-1])
        return [(group, int(np.searchsorted(edges, group[0].label))) for group in groups]
    if problem_type == "single_label":
        return list(zip(groups, labels, strict=True))
    counts = Counter(labels)
    return [
        (group, label if counts[label] >= RARE else "rare")
        for group, label in zip(groups, labels, strict=True)
    ]
