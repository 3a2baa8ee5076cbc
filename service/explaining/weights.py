"""How much each word, and each pair of neighbours, moved the score: by leaving it out.

Occlusion (Zeiler and Fergus, 2014, arXiv:1311.2901; for words Li et al., 2016, arXiv:1612.08220).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from service.explaining.occluded import Occluded
from service.explaining.words import Word
from service.runtime.outputs import FloatArray, ProblemType

FloatRow = npt.NDArray[np.float64]
Pull = Callable[[FloatArray], FloatRow]

# Of all runs. The rest is for phrases and for the deletion that changes the label.
SHARE_FOR_WORDS = 0.75
SHARE_FOR_PHRASES = 0.1
# A long text is first cut into so many parts, in shares of the words that it may have; then the
# weightiest are halved.
FIRST_PARTS = 0.4
HALVED_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Weighted:
    """A word, or several, and by how much the score falls without.

    interaction: what a phrase moves more than its words by themselves.
    """

    word: Word
    weight: float
    interaction: float = 0.0


def pull_of(label: int, problem: ProblemType) -> Pull:
    """Rows, [n, labels], to how strongly each speaks for `label`, [n].

    The log-odds of its probability, which moves as far by a word whether it began at 0.5 or at
    0.99; regression's number as it stands.
    """

    def pull(rows: FloatArray) -> FloatRow:
        wide = rows.astype(np.float64)
        if problem != "single_label" or wide.shape[1] == 1:
            return wide[:, label]
        others = np.delete(wide, label, axis=1)
        odds: FloatRow = wide[:, label] - np.logaddexp.reduce(others, axis=1)
        return odds

    return pull


async def word_weights(occluded: Occluded, pull: Pull, max_runs: float) -> list[Weighted]:
    """In the order of the text; of a long one several words together, fewest where it matters."""
    most = max(1, int(max_runs * SHARE_FOR_WORDS))
    words = list(occluded.words)
    if len(words) <= most:
        return await _weigh(occluded, pull, [[word] for word in words])
    groups = _parts(words, max(1, int(most * FIRST_PARTS)))
    runs = len(groups)
    found = await _weigh(occluded, pull, groups)
    while runs + 2 <= most and any(len(group) > 1 for group in groups):
        heaviest = sorted(range(len(groups)), key=lambda at: -abs(found[at].weight))
        room = min(HALVED_AT_ONCE, (most - runs) // 2)
        halved = [at for at in heaviest if len(groups[at]) > 1][:room]
        groups = [
            part
            for at, group in enumerate(groups)
            for part in (_parts(group, 2) if at in halved else [group])
        ]
        runs += 2 * len(halved)
        found = await _weigh(occluded, pull, groups)
    return found


async def reweighed(occluded: Occluded, pull: Pull, words: Sequence[Weighted]) -> list[Weighted]:
    """The same words by another measure, from rows that are known."""
    return await _weigh(occluded, pull, [[one.word] for one in words])


async def phrase_weights(
    occluded: Occluded, pull: Pull, words: Sequence[Weighted], max_runs: float
) -> list[Weighted]:
    """Of neighbours together, the weightiest first, as many as there is an allowance for."""
    spare = occluded.runs_left - max_runs * (1 - SHARE_FOR_WORDS - SHARE_FOR_PHRASES)
    pairs = [pair for pair in pairwise(words) if pair[0].word.part == pair[1].word.part]
    pairs.sort(key=lambda pair: -(abs(pair[0].weight) + abs(pair[1].weight)))
    pairs = pairs[: max(0, int(spare))]
    if not pairs:
        return []
    whole, *without = pull(
        await occluded.rows([(), *([one.word for one in pair] for pair in pairs)])
    )
    found = [
        Weighted(
            first.word.joined(second.word),
            float(whole - alone),
            float(whole - alone) - first.weight - second.weight,
        )
        for (first, second), alone in zip(pairs, without, strict=True)
    ]
    return sorted(found, key=lambda phrase: -abs(phrase.weight))


async def _weigh(
    occluded: Occluded, pull: Pull, groups: Sequence[Sequence[Word]]
) -> list[Weighted]:
    whole, *without = pull(await occluded.rows([(), *groups]))
    return [
        Weighted(_joined(group), float(whole - one))
        for group, one in zip(groups, without, strict=True)
    ]


def _joined(group: Sequence[Word]) -> Word:
    word = group[0]
    for other in group[1:]:
        word = word.joined(other)
    return word


def _parts(words: Sequence[Word], most: int) -> list[list[Word]]:
    """Neighbours in at most `most` groups of like size, none over the border of two texts."""
    size = -(-len(words) // most)
    groups: list[list[Word]] = []
    for word in words:
        if groups and len(groups[-1]) < size and groups[-1][-1].part == word.part:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups
