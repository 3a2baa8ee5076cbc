"""The fewest words without which the label is another one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.explaining.occluded import Occluded
from service.explaining.weights import Weighted
from service.explaining.words import Word
from service.runtime.outputs import FloatArray

# Which label a row stands for; of any number of labels, which of them hold.
Verdict = Callable[[FloatArray], object]


@dataclass(frozen=True, slots=True)
class Deletion:
    """Words of the input, and the model's row without them, [labels] float32."""

    words: Sequence[Word]
    row: FloatArray


async def label_changing_deletion(
    occluded: Occluded, verdict: Verdict, words: Sequence[Weighted], phrases: Sequence[Weighted]
) -> Deletion | None:
    """The smallest one found; None if there is none.

    Args:
        words: each with how much it speaks for the label that the whole input has.

    Single words and neighbours first, whose rows are known; then the words that speak most for the
    label, more and more of them; then each of those that were not needed is put back. At least one
    word stays.
    """
    (whole,) = await occluded.rows([()])
    label = verdict(whole)
    neighbours = sorted((_parts_of(phrase.word, words) for phrase in phrases), key=len)
    for removed in [*((one.word,) for one in words), *neighbours]:
        if len(removed) < len(words) and (found := await _try(occluded, removed, label, verdict)):
            return found
    ranked = [one.word for one in sorted(words, key=lambda one: -one.weight) if one.weight > 0]
    longest = min(len(ranked), len(words) - 1)
    growing = occluded.affordable([ranked[:count] for count in range(2, longest + 1)])
    if not growing:
        return None
    rows = await occluded.rows(growing)
    changed = [at for at, row in enumerate(rows) if verdict(row) != label]
    if not changed:
        return None
    return await _spare(occluded, Deletion(growing[changed[0]], rows[changed[0]]), label, verdict)


async def _spare(occluded: Occluded, found: Deletion, label: object, verdict: Verdict) -> Deletion:
    """`found` without the words that are not needed, as far as the allowance goes."""
    for word in reversed(found.words[:-1]):
        fewer = [one for one in found.words if one is not word]
        if not occluded.affordable([fewer]):
            break
        found = await _try(occluded, fewer, label, verdict) or found
    return found


async def _try(
    occluded: Occluded, removed: Sequence[Word], label: object, verdict: Verdict
) -> Deletion | None:
    (row,) = await occluded.rows([removed])
    return Deletion(removed, row) if verdict(row) != label else None


def _parts_of(phrase: Word, words: Sequence[Weighted]) -> tuple[Word, ...]:
    own = set(phrase.tokens)
    return tuple(one.word for one in words if own >= set(one.word.tokens))
