"""Parts of the data that share no text and have each label in the same share."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from service.errors import InvalidField
from service.offline.cleaning import key_of
from service.offline.data import Example
from service.runtime.outputs import ProblemType

QUANTILES = 8
# Sets of labels rarer than this are pooled: of so few, no share can be kept.
RARE = 4


def split(
    examples: Sequence[Example], problem_type: ProblemType, fractions: Sequence[float], seed: int
) -> list[list[Example]]:
    """The rest, then a part for each of `fractions`; the same seed gives the same parts.

    Each part has its share of every label, rounded up or down, and at least one text of it where
    there are enough; where not, the rest goes first. Sets of labels that are rare count by their
    rarest label, numbers by the eighth of the range they lie in. Duplicates stay together.

    Raises:
        InvalidField: a fraction is negative, or they leave no rest.
    """
    if min(fractions, default=0) < 0 or sum(fractions) >= 1:
        raise InvalidField(
            f"fractions {', '.join(map(str, fractions))} of the data cannot be held out: none may "
            "be below 0, and their sum stays below 1",
            param="fractions",
        )
    strata: dict[object, list[list[Example]]] = defaultdict(list)
    for group, stratum in _groups(examples, problem_type):
        strata[stratum].append(group)
    rng = random.Random(seed)
    dealer = _Dealer([1 - sum(fractions), *fractions], every=problem_type != "regression")
    parts: list[list[Example]] = [[] for _ in range(len(fractions) + 1)]
    for stratum in sorted(strata, key=repr):
        rng.shuffle(strata[stratum])
        for part, dealt in zip(parts, dealer.deal(strata[stratum]), strict=True):
            part += [example for group in dealt for example in group]
    for part in parts:
        rng.shuffle(part)
    return parts


class _Dealer:
    """Deals strata out, and remembers which part is owed something from rounding so far."""

    def __init__(self, shares: Sequence[float], *, every: bool) -> None:
        """every: each part gets one of a stratum if there are enough, however small its share."""
        self._shares = shares
        self._every = every
        self._owed = [0.0] * len(shares)

    def deal(self, groups: list[list[Example]]) -> list[list[list[Example]]]:
        """What each part gets; the first takes from the end of the groups."""
        ends = np.cumsum(self._counts(len(groups))[1:]).tolist()
        starts = [0, *ends]
        return [
            groups[starts[-1] :],
            *(groups[a:b] for a, b in zip(starts, ends, strict=False)),
        ]

    def _counts(self, size: int) -> list[int]:
        exact = [share * size for share in self._shares]
        counts = [math.floor(number) for number in exact]
        if self._every:
            counts = _at_least_one(counts, self._shares, size)
        owed = [
            due + number - count
            for due, number, count in zip(self._owed, exact, counts, strict=True)
        ]
        # Whoever has its share of this stratum by now waits for the next.
        most_owed = sorted(
            range(len(owed)), key=lambda part: (counts[part] >= exact[part], -owed[part])
        )
        for part in most_owed[: size - sum(counts)]:
            counts[part] += 1
            owed[part] -= 1
        self._owed = owed
        return counts


def _at_least_one(counts: list[int], shares: Sequence[float], size: int) -> list[int]:
    """The parts in order get one while there are any; whoever has most gives."""
    raised = [
        max(count, int(part < size and share > 0))
        for part, (count, share) in enumerate(zip(counts, shares, strict=True))
    ]
    while sum(raised) > size:
        raised[raised.index(max(raised))] -= 1
    return raised


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
        return list(zip(groups, _quantiles(labels), strict=True))
    if problem_type == "single_label":
        return list(zip(groups, labels, strict=True))
    return list(zip(groups, _label_sets(labels), strict=True))


def _quantiles(numbers: Sequence[object]) -> list[int]:
    """The eighth of the range that each number lies in, counted from 0."""
    values = np.array(numbers, dtype=float)
    edges = np.quantile(values, np.linspace(0, 1, QUANTILES + 1)[1:-1]) if numbers else []
    return [int(place) for place in np.searchsorted(edges, values)]


def _label_sets(sets: Sequence[object]) -> list[object]:
    """Each set that is frequent by itself; of the others, their rarest label."""
    counts = Counter(sets)
    labels = Counter(label for names in sets if isinstance(names, tuple) for label in names)
    return [
        names
        if counts[names] >= RARE or not isinstance(names, tuple)
        else min(names, key=lambda label: (labels[label], label), default="")
        for names in sets
    ]
