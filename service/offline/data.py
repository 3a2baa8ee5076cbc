"""What there is to learn from: texts or pairs of texts, each with what is said of it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

Label = str | tuple[str, ...] | float
Input = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    """A text, or a pair of texts, and its label.

    label: a name; for a multi-label task the names that hold, sorted, maybe none; for regression a
        finite number.
    """

    text: str
    label: Label
    pair: str | None = None

    @property
    def input(self) -> Input:
        return self.text if self.pair is None else (self.text, self.pair)


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two texts and how alike people found them, on any scale."""

    first: str
    second: str
    score: float


def digest_of(examples: Sequence[Example]) -> str:
    """sha256 over all texts and labels in order."""
    digest = hashlib.sha256()
    for example in examples:
        row = [example.text, example.pair, example.label]
        line = json.dumps(row, ensure_ascii=False)
        # JSON of others may hold half a character, which no encoding has.
        digest.update(line.encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()
