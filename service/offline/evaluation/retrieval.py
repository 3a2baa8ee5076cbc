"""How well texts that belong together find each other among those of all pairs."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.offline.evaluation.correlation import with_interval
from service.offline.evaluation.intervals import share_interval
from service.runtime.outputs import truncate_dimensions

FloatArray = npt.NDArray[np.float32]
Ranks = npt.NDArray[np.int64]
Columns = Sequence[Sequence[int]]

ROWS_AT_A_TIME = 256


def never_wrong(firsts: Sequence[Hashable], seconds: Sequence[Hashable]) -> list[list[int]]:
    """Of each first text the second ones, by number, that are no wrong answers to it.

    Those that some pair names for it, its own included, and the text itself. The texts may be
    strings or tuples of token ids.
    """
    places, answers = defaultdict(list), defaultdict(set)
    for place, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        places[second].append(place)
        answers[first].add(second)
    return [
        sorted(place for text in answers[first] | {first} for place in places.get(text, ()))
        for first in firsts
    ]


def ranks(firsts: FloatArray, seconds: FloatArray, right: Columns) -> Ranks:
    """The place of each first text's own second among the wrong ones, from 1 on, by cosine.

    Other right ones are left out ("filtered"; Bordes et al., 2013, "Translating embeddings"). Wrong
    ones as near as its own come before it, so that vectors that are all one find nothing.

    Args:
        firsts, seconds: [n, d]. right: as `never_wrong`.

    Returns:
        [n], from 1 to n.
    """
    firsts, seconds = _unit(firsts), _unit(seconds)
    found = np.empty(len(firsts), dtype=np.int64)
    for start in range(0, len(firsts), ROWS_AT_A_TIME):
        cosines = firsts[start : start + ROWS_AT_A_TIME] @ seconds.T
        for row, near in enumerate(cosines, start):
            # What cannot be compared, NaN, is no find.
            before = ~(near < near[row])
            before[list(right[row])] = False
            found[row] = 1 + int(before.sum())
    return found


def recall_at_1(found: Ranks) -> float:
    return float((found == 1).mean())


def belonging_pairs(
    texts: Sequence[str], vectors: FloatArray, sizes: Sequence[int] = ()
) -> dict[str, Any]:
    """Recall@1 and mean reciprocal rank of second texts, of whole vectors and of cut ones.

    Args:
        texts: [2 n], the first and second text of each pair in turn; vectors: [2 n, d], theirs.
        sizes: to which vectors are cut, too.
    """
    right = never_wrong(texts[0::2], texts[1::2])
    found: dict[str, Any] = {"texts": len(right)}
    for size in (None, *sizes):
        cut = vectors if size is None else truncate_dimensions(vectors, size)
        at = "" if size is None else f"_at_{size}"
        places = ranks(cut[0::2], cut[1::2], right)
        hits = int((places == 1).sum())
        found[f"recall_at_1{at}"] = recall_at_1(places)
        found[f"recall_at_1{at}_interval"] = share_interval(hits, len(places))
        inverse = 1 / places
        found |= with_interval(
            f"mean_reciprocal_rank{at}", lambda one, _: one.mean(axis=-1), inverse, inverse
        )
    return found


def headline(vectors: FloatArray, right: Columns) -> dict[str, float]:
    """The one number that a file of the model is known by, of [2 n, d] and `never_wrong`."""
    return {"recall_at_1": recall_at_1(ranks(vectors[0::2], vectors[1::2], right))}


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: FloatArray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return result
